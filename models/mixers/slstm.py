"""sLSTM, xLSTM's scalar memory (Beck et al. 2024, arXiv:2405.04517).

Gates see what the layer gave for the token before, so that training goes
through the tokens one by one: nothing of it runs in parallel. As in the
authors' layer there is no output matrix; the ffn mixes the heads.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ...errors import UserError, at_least
from ...parallel.rules import constrain
from ..linear import Projection
from ..param import declare, normal, zeros
from .recurrence import HeadNorm, Leaf, Recurrence, ShortConv

EMPTY = -1e30  # log of the weights before a document


@dataclasses.dataclass(frozen=True)
class Options:
  conv: int = 4  # tokens of the convolution before i and f; 1: the token's own

  def __post_init__(self):
    at_least(1, self, "conv")


def _forget_bias(key, shape, dtype):
  """From 5 down to -7 over the channels of a head, as at half the depth."""
  del key
  share = jnp.arange(shape[-1]) / max(shape[-1] - 1, 1)
  return jnp.broadcast_to(5 - 12 * share**0.95, shape).astype(dtype)


def cell(
  into: dict[str, Float[Array, "B T N H"]],
  recurrent: dict[str, Float[Array, "N H H"]],
  starts_BT: Bool[Array, "B T"],
  state: dict[str, Float[Array, "B N H"]],
) -> tuple[Float[Array, "B T N H"], dict[str, Float[Array, "B N H"]]]:
  """h of each token; c and n are held divided by exp(m)."""
  names = tuple(into)

  def step(state, token):
    *inputs, starts_B = token
    empty = starts_B[:, None, None]
    h, c, n = (jnp.where(empty, 0, state[k]) for k in "hcn")
    m = jnp.where(empty, EMPTY, state["m"])
    i, f, z, o = (
      a + jnp.einsum("BNH,NHG->BNG", h, recurrent[name])
      for name, a in zip(names, inputs, strict=True)
    )
    kept = m + jax.nn.log_sigmoid(f)
    m = jax.lax.stop_gradient(jnp.maximum(kept, i))
    forget, write = jnp.exp(kept - m), jnp.exp(i - m)
    c = forget * c + write * jnp.tanh(z)
    n = forget * n + write
    h = jax.nn.sigmoid(o) * c / n
    return {"h": h, "c": c, "n": n, "m": m}, h

  tokens = [jnp.moveaxis(a, 1, 0) for a in (*into.values(), starts_BT)]
  state, h_TBNH = jax.lax.scan(step, state, tokens)
  return jnp.moveaxis(h_TBNH, 0, 1), state


class SLSTM(Recurrence):
  """c = f c + i tanh(z), n = f n + i, h = sigmoid(o) c / n, by head."""

  word = "slstm"
  option_type = Options

  @classmethod
  def check(cls, config):
    if config.d_model % config.n_heads:
      raise UserError(
        f"model.mixer='slstm' has model.n_heads={config.n_heads} blocks of"
        f" channels, which do not divide model.d_model={config.d_model}; change"
        " one"
      )

  @classmethod
  def leaves(cls, config):
    N, W = config.n_heads, cls.options(config).conv - 1
    shape = (N, config.d_model // N)
    cells = {name: Leaf(shape) for name in "hcnm"}
    return cells | {"conv": Leaf((W, *shape), config.compute_dtype)}

  def mix(self, x_BTD, ctx, starts_BT, state):
    c, o, N = self.config, self.options(self.config), self.config.n_heads
    H = c.d_model // N
    axes = ("heads", "head_dim")
    x_BTNH = x_BTD.reshape(*x_BTD.shape[:2], N, H)
    x_BTNH = constrain(x_BTNH, "batch", "seq", "heads", "head_dim")
    conv = ShortConv(c, o.conv, (N, H), axes, bias=True, name="conv")
    near_BTNH, kept = conv(x_BTNH, starts_BT, state["conv"])
    near_BTNH = jax.nn.silu(near_BTNH)
    into, recurrent = {}, {}
    of_gates = (near_BTNH, near_BTNH, x_BTNH, x_BTNH)
    for name, of in zip("ifzo", of_gates, strict=True):
      spec, shape = "BTNH,NHG->BTNG", (N, H, H)
      blocks = ("heads", "head_dim", "latent")
      project = Projection(c, spec, shape, blocks, bias=False, name=name)
      into[name] = project(of).astype(jnp.float32)
      if name != "i":  # a constant there cancels in c / n
        bias = _forget_bias if name == "f" else zeros
        into[name] += declare(
          self, f"{name}_bias", bias, (N, H), axes, c.param_dtype
        )
      recurrent[name] = declare(
        self,
        f"{name}_recurrent",
        normal(H**-0.5),
        shape,
        blocks,
        c.param_dtype,
        ("batch", "in", "out"),
      ).astype(jnp.float32)
    before = {k: state[k] for k in "hcnm"}
    h_BTNH, after = cell(into, recurrent, starts_BT, before)
    norm = HeadNorm(c, centered=True, scale="each", name="norm")
    y_BTD = norm(h_BTNH).reshape(x_BTD.shape)
    return y_BTD.astype(x_BTD.dtype), {**after, "conv": kept}
