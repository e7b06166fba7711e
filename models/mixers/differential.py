"""Differential attention (Ye et al. 2024, arXiv:2410.05258)."""

import dataclasses

import jax.numpy as jnp

from ...errors import UserError
from ..norms import NORMS
from ..param import declare, normal
from . import attention


@dataclasses.dataclass(frozen=True)
class Options(attention.Options):
  # Of the second map, in place of 0.8 - 0.6 exp(-0.3 layer), layer from 0; 0:
  # that.
  lambda_init: float = 0.0

  def __post_init__(self):
    super().__post_init__()
    if not 0 <= self.lambda_init < 1:
      raise UserError(
        f"lambda_init={self.lambda_init} must be in (0, 1), or 0 for the"
        " paper's, by layer"
      )


class Differential(attention.Attention):
  """(softmax(q1 k1) - lambda softmax(q2 k2)) v for N/2 pairs of heads.

  Head i and head i + N/2 are a pair, whose values are those of both, 2 H wide;
  each pair's output is normed (2.1).
  """

  word = "differential"
  option_type = Options

  @classmethod
  def check(cls, config):
    super().check(config)
    if config.n_kv_heads % 2:
      raise UserError(
        f"model.n_kv_heads={config.n_kv_heads} is odd, and"
        " model.mixer='differential' takes heads in pairs; make it even"
      )

  def mix(self, position, q_BTNH, ctx, slots):
    c = self.config
    B, T, N, H = q_BTNH.shape
    halves = jnp.split(slots.arrays["v"], 2, axis=2)
    v_BSKV = jnp.tile(jnp.concatenate(halves, axis=-1), (1, 1, 2, 1))
    slots = slots._replace(arrays={**slots.arrays, "v": v_BSKV})
    o_BTNV = self.attend(position, q_BTNH, ctx, slots)
    first, second = jnp.split(o_BTNV, 2, axis=2)

    def vector(name):
      init, axes = normal(0.1), ("head_dim",)
      v_H = declare(self, name, init, (H,), axes, c.param_dtype)
      return v_H.astype(jnp.float32)  # their exponentials cancel

    depth = jnp.asarray(ctx.layer, jnp.float32)
    start = 0.8 - 0.6 * jnp.exp(-0.3 * depth)
    start = self.options(c).lambda_init or start
    one, two = (
      jnp.exp((vector(f"lambda_q{i}") * vector(f"lambda_k{i}")).sum())
      for i in (1, 2)
    )
    apart_BTnV = first.astype(jnp.float32) - (one - two + start) * second
    o_BTnV = NORMS["rms_norm"](c, name="pair_norm")(apart_BTnV)
    o_BTnV = (o_BTnV * (1 - start)).astype(o_BTNV.dtype)
    return o_BTnV.reshape(B, T, N, H)
