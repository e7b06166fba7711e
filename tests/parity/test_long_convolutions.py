"""Hyena and multi-head Hyena are their papers' sums, in torch and float64.

Every pair of tokens is a term of a sum over lags; filters are written from
section 3.3 and appendix D of Hyena's paper.
"""

import math

import pytest
import torch
from peers import Case, D, T, check

PROVES = ("mixer:hyena", "mixer:multi_hyena")
AGAINST = {
  "mixer:hyena": "paper's sums over lags, in float64",
  "mixer:multi_hyena": "paper's sums of outer products, in float64",
}

MAX_LEN, N, K, V = 96, 4, 6, 5
BANDS, WIDTH, FREQUENCY, SLOW, FAST, SHIFT = 3, 8, 3.0, 0.2, 0.05, 0.1
FILTER = {
  "bands": BANDS,
  "filter_width": WIDTH,
  "filter_frequency": FREQUENCY,
  "slow_decay": SLOW,
  "fast_decay": FAST,
  "shift": SHIFT,
}


class Peer(torch.nn.Module):
  """Our parameters by path, "_" for "/", and a formula of them and x."""

  def __init__(self, shapes, formula):
    super().__init__()
    for name, shape in shapes.items():
      value = torch.nn.Parameter(torch.zeros(shape))
      self.register_parameter(f"mixer_{name}", value)
    self.formula = formula

  def of(self, name):
    return getattr(self, f"mixer_{name}").double()

  def forward(self, x):
    return self.formula(self, x.double())


def case(mixer, opts, formula, shapes, **model):
  opts = {f"{mixer}.{key}": value for key, value in (FILTER | opts).items()}
  return Case(
    mixer,
    {"opts": opts, "max_len": MAX_LEN, **model},
    lambda ours: {path.replace("/", "_"): a for path, a in ours.items()},
    lambda config: (
      (peer := Peer(shapes, formula)),
      lambda x, mask: peer(x),
    ),
  )


def features(lag):
  """Time, and the real and imaginary parts of exp(-i f w)."""
  w = 2 * math.pi * lag / MAX_LEN
  f = [1e-4 + i * (BANDS - 1 - 1e-4) / (BANDS - 1) for i in range(BANDS)]
  waves = [complex(math.cos(a * w), -math.sin(a * w)) for a in f]
  parts = [z.real for z in waves] + [z.imag for z in waves]
  return torch.tensor([lag / MAX_LEN, *parts], dtype=torch.float64)


def filter_at(m, lag):
  """h of all channels at one lag; those of a convolution are its last axis."""
  x = features(lag)
  for i in range(3):
    y = x @ m.of(f"filter_hidden_{i}_kernel") + m.of(f"filter_hidden_{i}_bias")
    x = torch.sin(m.of("filter_frequency") * y)
  h = torch.tensordot(x, m.of("filter_out_kernel"), 1)
  n = h.shape[-1]
  # Windows of 0.01 at so many tokens, their rates evenly between.
  slow, fast = (math.log(0.01) / (share * MAX_LEN) for share in (SLOW, FAST))
  window = [
    math.exp((slow + (fast - slow) * i / (n - 1)) * lag) + SHIFT
    for i in range(n)
  ]
  return h * torch.tensor(window, dtype=torch.float64)


def convolved(u, filters, skip):
  """[b, t, ...] with a filter for each element of the first axes."""
  found = []
  for t in range(T):
    y = u[:, t] * skip
    for s in range(t + 1):
      y = y + filters[t - s] * u[:, s]
    found.append(y)
  return torch.stack(found, 1)


def short(m, name, y):
  """Of three tokens, with a bias."""
  w, found = m.of(f"conv_{name}_kernel"), []
  for t in range(T):
    taps = [w[2 - ago] * y[:, t - ago] for ago in range(min(t, 2) + 1)]
    found.append(sum(taps) + m.of(f"conv_{name}_bias"))
  return torch.stack(found, 1)


def hyena(order, first, bias=False):
  """Definition 3.1, whose first long convolution there may be or not."""

  def formula(m, x):
    def projected(name):
      y = x @ m.of(f"{name}_kernel")
      return short(m, name, y + m.of(f"{name}_bias") if bias else y)

    filters, z = [filter_at(m, lag) for lag in range(T)], projected("v")
    for n in range(order):
      if n >= first:
        h = [of_lag[n - first] for of_lag in filters]
        z = convolved(z, h, m.of("filter_skip")[n - first])
      z = projected(f"x{n + 1}") * z
    y = z @ m.of("o_kernel")
    return y + m.of("o_bias") if bias else y

  return formula


def multi_hyena(m, x):
  def projected(name):
    y = torch.einsum("btd,dnh->btnh", x, m.of(f"{name}_kernel"))
    return short(m, name, y)

  q, k, v = (projected(name) for name in "qkv")
  outer = k[..., :, None] * v[..., None, :]
  filters = [filter_at(m, lag)[:, None, None] for lag in range(T)]
  sums = convolved(outer, filters, m.of("filter_skip")[:, None, None])
  y = torch.einsum("btnkv,btnk->btnv", sums, q)
  return torch.einsum("btnv,nvd->btd", y, m.of("o_kernel"))


def of_filters(*shape):
  into = (2 * BANDS + 1, WIDTH, WIDTH)
  return {
    **{f"filter_hidden_{i}_kernel": (n, WIDTH) for i, n in enumerate(into)},
    **{f"filter_hidden_{i}_bias": (WIDTH,) for i in range(len(into))},
    "filter_frequency": (WIDTH,),
    "filter_out_kernel": (WIDTH, *shape),
    "filter_skip": shape,
  }


def of_streams(shapes):
  return {
    **{f"{name}_kernel": (D, *shape) for name, shape in shapes.items()},
    **{f"conv_{name}_kernel": (3, *shape) for name, shape in shapes.items()},
    **{f"conv_{name}_bias": shape for name, shape in shapes.items()},
  }


def of_hyena(order, first, bias=False):
  names = ["v", *(f"x{n + 1}" for n in range(order))]
  shapes = of_streams(dict.fromkeys(names, (D,))) | {"o_kernel": (D, D)}
  if bias:
    shapes |= {f"{name}_bias": (D,) for name in (*names, "o")}
  return shapes | of_filters(order - first, D)


CASES = {
  f"hyena, {name}": case(
    "hyena",
    {"order": order, "convolve_values": first == 0},
    hyena(order, first, bias),
    of_hyena(order, first, bias),
    use_bias=bias,
  )
  for name, order, first, bias in (
    ("order 1, definition 3.1", 1, 0, False),
    ("order 2, definition 3.1", 2, 0, False),
    ("order 2", 2, 1, False),
    ("order 2, biases", 2, 1, True),
    ("order 3", 3, 1, False),
  )
}
CASES["multi_hyena"] = case(
  "multi_hyena",
  {"key_dim": K, "value_dim": V},
  multi_hyena,
  of_streams({"q": (N, K), "k": (N, K), "v": (N, V)})
  | {"o_kernel": (N, V, D)}
  | of_filters(N),
)


@pytest.mark.parametrize("name", CASES)
def test_outputs_and_gradients_are_those_of_the_peer(name, model_config):
  check(CASES[name], model_config)
