"""TTT-Linear, learning at test time (Sun et al. 2024, arXiv:2407.04620).

The state of a head is a linear model, trained on the text as it is read, to
tell values from keys; queries read what it has learnt. By default it is the
layer of the paper's main model, TTT-Linear (M): queries and keys are two
convolutions of one projection, and a gate follows. That model's own
convolution before each layer stands outside it, and isn't here. `conv=0,
gate=False` is the layer in the Transformer backbone, (T).
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ...errors import UserError, at_least
from ...kernels.dispatch import dispatch
from ...kernels.ttt import Learner, State
from ..config import ModelConfig
from ..linear import Projection
from ..param import declare, normal, ones, zeros
from ..positions.rope import wavelengths
from .recurrence import HEADS, HeadNorm, Leaf, Recurrence, ShortConv


@dataclasses.dataclass(frozen=True)
class Options:
  batch: int = 16  # tokens whose gradients are taken at the same weights
  base_lr: float = 1.0  # most that a token's gradient counts, times head_dim
  conv: int = 4  # tokens of the convolutions of q and k; 0: projected apart
  gate: bool = True  # what is learnt is multiplied by a GELU of the input
  rope_theta: float = 10_000.0  # base of the turns within a mini-batch

  def __post_init__(self):
    at_least(1, self, "batch")
    at_least(0, self, "conv")
    for key in ("base_lr", "rope_theta"):
      if getattr(self, key) <= 0:
        raise UserError(f"{key}={getattr(self, key)} must be positive")


def turned(
  x_BTNH: Float[Array, "B T N H"], place_BT: Int[Array, "B T"], theta: float
) -> Float[Array, "B T N H"]:
  """RoPE by the place in the mini-batch, in fp32."""
  frequency_R = wavelengths(theta, x_BTNH.shape[-1])
  angle_BT1R = place_BT[..., None, None].astype(jnp.float32) * frequency_R
  cos, sin = jnp.cos(angle_BT1R), jnp.sin(angle_BT1R)
  x, y = jnp.split(x_BTNH.astype(jnp.float32), 2, axis=-1)
  return jnp.concatenate([x * cos - y * sin, y * cos + x * sin], axis=-1)


def with_one(x_BTNH: Float[Array, "B T N H"]) -> Float[Array, "B T N K"]:
  """Its weight is the bias."""
  return jnp.pad(x_BTNH, [(0, 0)] * 3 + [(0, 1)], constant_values=1)


class Start(nn.Module):
  """What a head's learner begins a document with.

  Attributes:
    batch: tokens of a mini-batch.
  """

  config: ModelConfig
  batch: int

  @nn.compact
  def __call__(self) -> Learner:
    c, Q = self.config, self.batch
    N, H = c.n_heads, c.head_dim
    kernel_NHH = declare(
      self,
      "kernel",
      normal(0.02),
      (N, H, H),
      (*HEADS, "latent"),
      c.param_dtype,
      ("batch", "in", "out"),
    )
    bias_NH, norm_bias_NH = (
      declare(self, name, zeros, (N, H), HEADS, c.param_dtype)
      for name in ("bias", "norm_bias")
    )
    scale_NH = declare(self, "scale", ones, (N, H), HEADS, c.param_dtype)
    share_bias_Q = declare(
      self, "share_bias", zeros, (Q,), ("latent",), c.param_dtype
    )
    weights_NKH = jnp.concatenate([kernel_NHH, bias_NH[:, None]], axis=1)
    # The mean of the gradients so far, before the offsets are learnt.
    share_Q = jnp.maximum(1 / jnp.arange(1, Q + 1) + share_bias_Q, 0)
    learner = Learner(weights_NKH, scale_NH, norm_bias_NH, share_Q)
    return jax.tree.map(lambda a: a.astype(jnp.float32), learner)


class TTTLinear(Recurrence):
  """f_W(x) = x + LN(x W + b), with W, b trained by f_W(k) = v, at q."""

  word = "ttt_linear"
  option_type = Options

  @classmethod
  def check(cls, config):
    if config.head_dim % 2:
      raise UserError(
        "model.mixer='ttt_linear' turns pairs of channels, and a head has"
        f" {config.head_dim}; make model.head_dim even"
      )

  @classmethod
  def leaves(cls, config):
    N, H, conv = config.n_heads, config.head_dim, cls.options(config).conv
    weights = Leaf((N, H + 1, H))  # the last row is the bias
    arrays = {"moved": weights, "sum": weights}
    if conv:
      arrays["conv"] = Leaf((conv - 1, N, H), config.compute_dtype)
    return arrays

  def mix(self, x_BTD, ctx, starts_BT, state):
    c, o = self.config, self.options(self.config)
    N, H = c.n_heads, c.head_dim

    def by_head(name, to_branch=False):
      return self.into(x_BTD, name, (N, H), HEADS, to_branch)

    if o.conv:
      both_BTNH, kept, found = by_head("qk"), {}, {}
      for name in "qk":
        conv = ShortConv(
          c, o.conv, (N, H), HEADS, bias=True, name=f"conv_{name}"
        )
        found[name], kept["conv"] = conv(both_BTNH, starts_BT, state["conv"])
    else:
      found, kept = {name: by_head(name) for name in "qk"}, {}
    place_BT = ctx.positions_BT % o.batch
    q_BTNH, k_BTNH = (
      turned(found[name], place_BT, o.rope_theta) for name in "qk"
    )
    v_BTNH = by_head("v", to_branch=True).astype(jnp.float32)
    into = (c, "BTD,DN->BTN", (c.d_model, N), ("embed", "heads"))
    lr_BTN = Projection(*into, bias=True, name="lr")(x_BTD)
    rate_BTN = o.base_lr / H * jax.nn.sigmoid(lr_BTN.astype(jnp.float32))
    learnt_BTNH, after = dispatch("ttt", c.implementation)(
      with_one(q_BTNH),
      with_one(k_BTNH),
      v_BTNH - k_BTNH,
      rate_BTN,
      place_BT,
      starts_BT,
      Start(c, o.batch, name="start")(),
      State(state["moved"], state["sum"]),
    )
    norm = HeadNorm(c, 0.0, True, "each", bias=True, over=N, name="norm")
    y_BTNH = norm(q_BTNH + learnt_BTNH)
    if o.gate:
      gate_BTNH = by_head("gate", to_branch=True).astype(jnp.float32)
      y_BTNH *= jax.nn.gelu(gate_BTNH)
    kept |= {"moved": after.moved_BNKV, "sum": after.sum_BNKV}
    return self.out(y_BTNH), kept
