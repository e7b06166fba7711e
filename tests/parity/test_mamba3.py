"""Mamba-3 is its recurrence by tokens, whose state turns as complex numbers."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from peers import B, Case, D, T, by_path, check

from ablax.errors import UserError
from ablax.kernels.dispatch import dispatch
from ablax.models.context import Context
from ablax.models.mixers.mamba3 import Mamba3, sums_of_turns
from ablax.models.once import Alone
from ablax.models.param import init_params, path_of, specs

PROVES = ("mixer:mamba3",)
AGAINST = {"mixer:mamba3": "paper's recurrence with complex states, in torch"}
LAMBDA = {"learned": None, "trapezoidal": 0.5, "euler": 1.0}

softplus, silu = torch.nn.functional.softplus, torch.nn.functional.silu


def rms(a):
  return a * torch.rsqrt(a.square().mean(-1, keepdim=True) + 1e-5)


def recurrence(config, w, x, starts=None):
  """Equation 25 by tokens, in float64: outputs, and the states [b, n, k, v].

  Pairs of the state that turn are complex numbers; what does not turn has no
  imaginary part and no angle.
  """
  o, (N, V) = Mamba3.options(config), Mamba3.sizes(config)
  A = int(o.state * o.rope_fraction) // 2
  x, w = x.double(), {name: a.double() for name, a in w.items()}

  def of(name):
    return torch.tensordot(x, w[f"{name}/kernel"], 1)

  def complex_by_head(name):
    a = rms(of(name)) * w[f"{name}_norm/scale"]
    a = a.unflatten(2, (o.rank, o.groups))
    a = a.repeat_interleave(N // o.groups, 3)
    a = a + w[f"{name}_bias"] if o.bc_bias else a
    pairs = a[..., : 2 * A].unflatten(-1, (-1, 2)).contiguous()
    rest = a[..., 2 * A :]
    rest = torch.complex(rest, torch.zeros_like(rest))
    return torch.cat([torch.view_as_complex(pairs), rest], -1)

  def by_rank(a, name):
    a = a[:, :, None]
    return a * w[name] if o.rank > 1 else a

  xs, gate = by_rank(of("x"), "up_x"), by_rank(of("gate"), "up_gate")
  b, c = complex_by_head("b"), complex_by_head("c")
  dt = softplus(of("dt") + w["dt_bias"])
  rate = -torch.clamp(softplus(of("rate")), min=1e-4)
  theta = torch.zeros(*x.shape[:2], b.shape[-1], dtype=torch.float64)
  if A:
    theta = torch.cat([math.pi * torch.tanh(of("angle")), theta[..., A:]], -1)
  share = LAMBDA[o.rule]
  if share is None:
    share = torch.sigmoid(of("trapezoid"))
  # Their kernels turn C and B forward, so that the state turns back.
  move = torch.exp(dt[..., None] * (rate[..., None] - 1j * theta[:, :, None]))
  own, before = share * dt, (1 - share) * dt
  h = torch.zeros(x.shape[0], N, b.shape[-1], V, dtype=torch.complex128)
  last, outputs, states = torch.zeros_like(h), [], []
  for t in range(x.shape[1]):
    if starts is not None:
      goes_on = ~starts[:, t, None, None, None]
      h, last = h * goes_on, last * goes_on
    h = move[:, t, ..., None] * (h + before[:, t, :, None, None] * last)
    last = torch.einsum("brnk,brnv->bnkv", b[:, t], xs[:, t] + 0j)
    h = h + own[:, t, :, None, None] * last
    outputs.append(torch.einsum("brnk,bnkv->brnv", c[:, t].conj(), h).real)
    states.append(h)
  y = torch.stack(outputs, 1) + w["skip"][:, None] * xs
  y = rms(y) * w["norm/scale"] if o.norm else y
  y = y * silu(gate)
  y = (y * w["down"] if o.rank > 1 else y).sum(2)
  y = torch.einsum("btnv,nvd->btd", y, w["o/kernel"])
  return y, torch.stack(states, 1)


class ByTokens(torch.nn.Module):
  """It with our parameters, "_" in the place of "/"."""

  def __init__(self, config):
    super().__init__()
    self.config, self.paths = config, {}
    leaves = jax.tree_util.tree_leaves_with_path(declared(config))
    for key_path, spec in leaves:
      path = path_of(key_path)
      name = path.replace("/", "_")
      self.paths[path.removeprefix("mixer/")] = name
      self.register_parameter(name, torch.nn.Parameter(torch.zeros(spec.shape)))

  def forward(self, x):
    w = {path: getattr(self, name) for path, name in self.paths.items()}
    return recurrence(self.config, w, x)[0].float()


def declared(config):
  x_BTD = jnp.zeros((1, 2, config.d_model))
  return specs(Alone(config, "mamba3"), x_BTD, Context(jnp.arange(2)[None]))


def options(**opts):
  return {f"mamba3.{name}": value for name, value in opts.items()}


MIMO = {"rank": 3, "groups": 2, "norm": True, "head_dim": 8}
CASES = {
  "as published": {},
  "groups, and all turns": {"groups": 2, "rope_fraction": 1.0},
  "an odd state": {"state": 7, "rope_fraction": 1.0, "norm": True},
  "MIMO": MIMO,
  "the trapezoidal rule": {"rule": "trapezoidal", "bc_bias": False},
  "the rule of Euler": {"rule": "euler", "rank": 2, "rope_fraction": 0.0},
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_its_recurrence(name, model_config):
  def build(config):
    peer = ByTokens(config)
    return peer, lambda x, mask: peer(x)

  def names(ours):
    return {path.replace("/", "_"): value for path, value in ours.items()}

  opts = options(**{"state": 6} | CASES[name])
  check(Case("mamba3", {"opts": opts}, names, build), model_config)


def drawn(config, seed=0):
  """Parameters of which none starts at 0 or at 1."""
  params = init_params(declared(config), jax.random.key(seed))
  leaves, tree = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
  return tree.unflatten(
    a + 0.2 * jax.random.normal(key, a.shape)
    for key, a in zip(keys, leaves, strict=True)
  )


def in_torch(params):
  return {
    path.removeprefix("mixer/"): torch.tensor(a)
    for path, a in by_path(params).items()
  }


def of_lengths(lengths, rows):
  """The context of documents of these lengths, one after the other."""
  at = np.concatenate([np.arange(n) for n in lengths])
  segments = np.repeat(np.arange(len(lengths)) + 1, lengths)
  at, segments = (np.broadcast_to(a, (rows, a.size)) for a in (at, segments))
  return Context(jnp.asarray(at), jnp.asarray(segments))


def difference(got, want):
  got, want = np.asarray(got), np.asarray(want)
  return np.abs(got - want).max() / np.abs(want).max()


@pytest.mark.parametrize("opts", [{}, MIMO], ids=["SISO", "MIMO"])
def test_states_between_chunks_are_those_of_the_recurrence(model_config, opts):
  """Documents packed in a row longer than the kernel's chunk, cut anywhere."""
  config = model_config(
    pattern=("mamba3",), opts=options(**{"state": 6} | opts)
  )
  params, o = drawn(config), Mamba3.options(config)
  ctx = of_lengths((70, 1, 79), B)
  x = np.random.default_rng(1).normal(size=(B, 150, D)).astype(np.float32)
  starts = torch.tensor(np.asarray(ctx.positions_BT)) == 0
  want, states = recurrence(config, in_torch(params), torch.tensor(x), starts)

  run = jax.jit(lambda x, ctx, state: apply(config, params, x, ctx, state))
  # Seen: 1.2e-6 of the largest output.
  assert difference(run(x, ctx, None)[0], want) < 5e-6
  state = Mamba3.init_state(config, B, 150)
  for start, end in itertools.pairwise((0, 1, 40, 70, 71, 72, 150)):
    y, state = run(x[:, start:end], ctx.chunk(start, end), state)
    assert difference(y, want[:, start:end]) < 1e-5
    # e and the last token's own part, turned back.
    v = np.asarray(state["x"])[:, 0][:, None]
    v = v * params["mixer"]["up_x"] if o.rank > 1 else v
    gamma = np.asarray(state["gamma"])[:, 0, :, None, None]
    h = state["state"] + gamma * np.einsum(
      "brnk,brnv->bnkv", state["b"][:, 0], v
    )
    turns = np.exp(-2j * math.pi * np.asarray(state["turns"]))
    turning = np.asarray(h)[:, :, : 2 * o.pairs]
    pairs = turning[:, :, 0::2] + 1j * turning[:, :, 1::2]
    rest = np.asarray(h)[:, :, 2 * o.pairs :]
    h = np.concatenate([pairs * turns[..., None], rest], axis=2)
    assert difference(h, states[:, end - 1]) < 5e-6


def apply(config, params, x, ctx, state=None):
  x = jnp.asarray(x)
  return Alone(config, "mamba3").apply({"params": params}, x, ctx, state)


def test_by_euler_and_without_turns_it_is_the_recurrence_of_mamba2(
  model_config,
):
  """Of C, B, dt x and one decay a head; the kernel's reference, by tokens."""
  opts = options(state=6, rule="euler", rope_fraction=0.0, bc_bias=False)
  config = model_config(pattern=("mamba3",), opts=opts)
  params = drawn(config)
  x = np.random.default_rng(2).normal(size=(B, T, D)).astype(np.float32)
  w = params["mixer"]

  def of(name):
    return jnp.tensordot(x, w[name]["kernel"], 1)

  def normed(name):
    a = of(name)
    a /= jnp.sqrt((a**2).mean(-1, keepdims=True) + 1e-5)
    return a * w[f"{name}_norm"]["scale"]

  dt = jax.nn.softplus(of("dt") + w["dt_bias"])
  y, _ = jax.jit(dispatch("linear_scan", "reference"))(
    normed("c"),
    normed("b"),
    dt[..., None] * of("x"),
    (-jax.nn.softplus(of("rate")) * dt)[..., None],
    jnp.zeros((B, T), bool),
    jnp.zeros((B, 4, 6, 2 * D // 4)),
  )
  y = (y + w["skip"][:, None] * of("x")) * jax.nn.silu(of("gate"))
  want = jnp.einsum("btnv,nvd->btd", y, w["o"]["kernel"])
  at = jnp.broadcast_to(jnp.arange(T), (B, T))
  run = jax.jit(lambda x: apply(config, params, x, Context(at))[0])
  assert difference(run(x), want) < 2e-6


def long_memory(config):
  """Parameters with dt near 1, a decay of 1e-4 and up to half a turn a token.

  They read the last two off the first channel of x, which is to be 1.
  """
  params = jax.tree.map(np.array, drawn(config))
  w = params["mixer"]
  w["dt"]["kernel"] *= 0.2
  w["dt_bias"][:] = 0.54
  w["rate"]["kernel"] *= 0.1
  w["rate"]["kernel"][0] = -9
  w["angle"]["kernel"] *= 0.2
  w["angle"]["kernel"][0] = np.linspace(0.2, 1.5, w["angle"]["kernel"].shape[1])
  return jax.tree.map(jnp.asarray, params)


def test_a_long_row_is_the_same_at_once_and_by_tokens(model_config):
  """4,096 tokens, whose angles add up to some thousand turns."""
  length = 4096
  opts = options(state=8, rank=2)
  config = model_config(pattern=("mamba3",), opts=opts)
  params = long_memory(config)
  x = np.random.default_rng(3).normal(size=(1, length, D)).astype(np.float32)
  x[..., 0] = 1
  ctx = of_lengths((length,), 1)
  want, _ = recurrence(config, in_torch(params), torch.tensor(x))

  def both(dtype):
    c = model_config(pattern=("mamba3",), opts=opts, compute_dtype=dtype)

    @jax.jit
    def by_tokens(x):
      def step(state, token):
        here = Context(ctx.positions_BT[:, :1], ctx.segment_ids_BT[:, :1])
        y, state = apply(c, params, token[:, None], here, state)
        return state, y[:, 0]

      first = Mamba3.init_state(c, 1, length)
      return jnp.moveaxis(
        jax.lax.scan(step, first, jnp.moveaxis(x, 1, 0))[1], 0, 1
      )

    whole = jax.jit(lambda x: apply(c, params, x, ctx)[0])
    given = jnp.asarray(x, dtype)
    return (np.asarray(f(given), np.float32) for f in (whole, by_tokens))

  # Sums of radians in fp32 would be wrong by 1e-3 of a turn. Seen: 2.0e-6.
  whole, steps = both("float32")
  assert difference(whole, want) < 1e-5 and difference(steps, want) < 1e-5
  # bf16: a product rounded otherwise is off by 2^-9. Seen: 3.7e-3.
  whole, steps = both("bfloat16")
  assert difference(steps, whole) < 2e-2
  # Steps and angles are projected in fp32: in bf16 it would be 0.13. Seen:
  # 1.1e-2.
  assert max(difference(a, want) for a in (whole, steps)) < 3e-2


def test_turns_add_up_in_a_document_and_whole_ones_are_left_out():
  rng = np.random.default_rng(4)
  steps = rng.uniform(-3, 3, size=(1, 4000, 2, 3)).astype(np.float32)
  before = rng.uniform(-0.5, 0.5, size=(1, 2, 3)).astype(np.float32)
  starts = np.zeros((1, 4000), bool)
  starts[0, [1000, 1001]] = True
  got = np.asarray(jax.jit(sums_of_turns)(steps, starts, before))
  exact = steps.astype(np.float64)
  exact[:, 0] += before
  parts = np.split(exact, [1000, 1001], axis=1)
  off = got - np.concatenate([np.cumsum(a, axis=1) for a in parts], axis=1)
  assert np.abs(got).max() <= 0.5
  # Half a rounding of numbers below 1 for each of two times 12 additions.
  assert np.abs(off - np.round(off)).max() < 24 * 2**-25


@pytest.mark.parametrize("rank", [1, 3])
def test_no_bit_of_the_past_depends_on_the_future(model_config, rank):
  """Which is why the scan is that of the tokens before."""
  opts = options(state=6, rank=rank)
  config = model_config(pattern=("mamba3",), opts=opts)
  params, ctx = drawn(config), of_lengths((90,), 1)
  run = jax.jit(lambda x: apply(config, params, x, ctx)[0])
  x = np.random.default_rng(5).normal(size=(1, 90, D)).astype(np.float32)
  other = x.copy()
  other[:, 50:] *= 1e3
  got, want = np.asarray(run(other)), np.asarray(run(x))
  assert (got[:, :50] == want[:, :50]).all()
  assert not (got[:, 50] == want[:, 50]).all()


def test_extreme_inputs_have_finite_outputs_and_gradients(model_config):
  config = model_config(pattern=("mamba3",), opts=options(**MIMO))
  params, ctx = drawn(config), of_lengths((40, 30), 1)

  @jax.jit
  def values(x):
    def loss(params, x):
      return apply(config, params, x, ctx)[0].sum()

    return jax.value_and_grad(loss, argnums=(0, 1))(params, x)

  x = jax.random.normal(jax.random.key(6), (1, 70, D))
  for size in (0, 1e-6, 1e4):
    for a in jax.tree.leaves(values(size * x)):
      assert jnp.isfinite(a).all(), size


def test_parameters_start_where_the_authors_have_them(model_config):
  config = model_config(pattern=("mamba3",), opts=options(rank=4))
  params = init_params(declared(config), jax.random.key(0))["mixer"]
  for name, start in (
    ("b_bias", 1),
    ("c_bias", 1),
    ("up_x", 1 / 4),
    ("up_gate", 1),
    ("down", 1 / 4),
    ("skip", 1),
  ):
    assert (params[name] == start).all(), name


@pytest.mark.parametrize(
  ("opts", "said"),
  [
    ({"rank": 0}, "rank=0 must be at least 1"),
    ({"head_dim": -1}, "head_dim=-1 must be positive, or 0 for as many heads"),
    (
      {"head_dim": 7},
      r"mixer='mamba3' has 48 channels, .* heads of 7 do not divide; change"
      r" model\.opts\.mamba3\.head_dim",
    ),
    ({"groups": 3}, "groups=3 does not divide its 4 heads"),
    ({"rule": "eular"}, "rule='eular' .* did you mean 'euler'"),
    ({"rope_fraction": 1.5}, r"rope_fraction=1.5 must be in \[0, 1\]"),
    ({"state": 3}, "rope_fraction=0.5 of state=3 is not a pair"),
  ],
)
def test_what_cannot_be_is_refused(model_config, opts, said):
  with pytest.raises(UserError, match=said):
    model_config(pattern=("mamba3",), opts=options(**opts))
