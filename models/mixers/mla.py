"""Multi-head latent attention (DeepSeek-AI 2024, arXiv:2405.04434)."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...errors import UserError
from ..context import Context
from ..linear import Projection
from ..mup import query_scale
from ..norms import NORMS
from ..positions import POSITIONS
from . import State, attention


@dataclasses.dataclass(frozen=True)
class Options(attention.OfScores):  # scale of 0: 1 / sqrt(head_dim + rope_dim)
  kv_rank: int = 64  # numbers of the latent that keys and values are made of
  q_rank: int = 0  # the same for queries; 0: they are projected directly
  rope_dim: int = 16  # of each head, besides head_dim: the part that is turned

  def __post_init__(self):
    super().__post_init__()
    if self.kv_rank < 1:
      raise UserError(f"kv_rank={self.kv_rank} must be at least 1")
    if self.q_rank < 0:
      raise UserError(
        f"q_rank={self.q_rank} must be positive, or 0 for no latent"
      )
    if self.rope_dim < 2 or self.rope_dim % 2:
      raise UserError(
        f"rope_dim={self.rope_dim} must be even and positive: pairs are turned"
      )


class MLA(attention.Attention):
  """Keys and values of all heads from one latent vector a token; section 2.1.

  A part of each key is turned by its position, and shared by all heads. The
  decode state holds latents and turned parts alone: few queries go to the
  latents by way of the keys' matrix ("absorbed"), many have keys and values
  made again. `model.n_kv_heads` has no meaning here.
  """

  word = "mla"
  option_type = Options

  @classmethod
  def turned(cls, config):
    return cls.options(config).rope_dim

  @classmethod
  def check(cls, config):
    super().check(config)
    if config.use_bias:
      raise UserError(
        "model.use_bias=True: model.mixer='mla' has no biases; set it to False"
      )
    word = cls.position_word(config)
    if POSITIONS[word].of_content:
      raise UserError(
        f"model.position={word!r} reads whole queries and keys, and"
        " model.mixer='mla' keeps none; choose rope and its extensions, alibi,"
        " t5 or none"
      )

  @property
  def scale(self):
    c = self.config
    o = self.options(c)
    return o.scale or (c.head_dim + o.rope_dim) ** -0.5

  @nn.compact
  def __call__(
    self, x_BTD: Float[Array, "B T D"], ctx: Context, state: State | None = None
  ) -> tuple[Float[Array, "B T D"], State | None]:
    c = self.config
    o = self.options(c)
    D, N, H, R, C = c.d_model, c.n_heads, c.head_dim, o.rope_dim, o.kv_rank
    word = self.position_word(c)
    position = POSITIONS[word](c, name="position")

    def project(name, spec, shape, axes, **more):
      return Projection(c, spec, shape, axes, name=name, bias=False, **more)

    def norm(name, x):
      return NORMS["rms_norm"](c, name=name)(x)

    x_q, q_in, axis = x_BTD, D, "embed"
    if o.q_rank:
      q_in, axis = o.q_rank, "latent"
      down = project("q_down", "BTD,DC->BTC", (D, q_in), ("embed", axis))
      x_q = norm("q_norm", down(x_BTD))
    axes = (axis, "heads", "head_dim")
    q_BTNX = project("q", "BTD,DNH->BTNH", (q_in, N, H + R), axes)(x_q)
    if (scale := query_scale(c, bool(o.scale))) != 1:
      q_BTNX *= scale
    q_BTNH, turn_BTNR = q_BTNX[..., :H], q_BTNX[..., H:]
    axes = ("embed", "latent")
    down = project("kv_down", "BTD,DC->BTC", (D, C + R), axes)(x_BTD)
    latent_BTC, k_BT1R = norm("kv_norm", down[..., :C]), down[:, :, None, C:]
    if not position.raw_keys:
      k_BT1R = self.turn(position, k_BT1R, ctx)
    new = {"latent": latent_BTC, "k": k_BT1R}
    slots, state = self.remember(state, new, ctx)
    latent_BSC = slots.arrays["latent"]
    k_BS1R = self.turned_keys(position, slots, ctx)
    turn_BTNR = self.turn(position, turn_BTNR, ctx)

    axes = ("latent", "heads", "head_dim")
    k_up = project("k_up", "BTC,CNH->BTNH", (C, N, H), axes)
    v_up = project("v_up", "BTC,CNH->BTNH", (C, N, H), axes, to_branch=True)
    absorbed = state is not None and x_BTD.shape[1] < H
    if absorbed:
      q_BTNC = k_up(q_BTNH, "BTNH,CNH->BTNC")
      q = jnp.concatenate([q_BTNC, turn_BTNR], axis=-1)
      v = latent_BSC[:, :, None]
      k = jnp.concatenate([v, k_BS1R], axis=-1)
    else:
      shape = (*k_BS1R.shape[:2], N, R)
      k_BSNR = jnp.broadcast_to(k_BS1R, shape)
      q = jnp.concatenate([q_BTNH, turn_BTNR], axis=-1)
      k = jnp.concatenate([k_up(latent_BSC), k_BSNR], axis=-1)
      v = v_up(latent_BSC)
    scores = position.scores(self.asked(q, k, ctx, slots))
    o_BTNV = self.kernel(q, k, v, ctx, slots, scores=scores)
    if absorbed:
      o_BTNV = v_up(o_BTNV, "BTNC,CNH->BTNH")
    axes = ("heads", "head_dim", "embed")
    out = Projection(
      c, "BTNH,NHD->BTD", (N, H, D), axes, to_residual=True, name="o"
    )
    return out(o_BTNV), state

  @classmethod
  def slot_shapes(cls, config):
    o = cls.options(config)
    return {"latent": (o.kv_rank,), "k": (1, o.rope_dim)}
