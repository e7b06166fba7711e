"""Attention with grouped queries (Ainslie et al. 2023, arXiv:2305.13245).

`n_kv_heads = n_heads` is multi-head attention (Vaswani et al. 2017,
arXiv:1706.03762), `n_kv_heads = 1` multi-query (Shazeer 2019,
arXiv:1911.02150).
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ...errors import UserError
from ...kernels.dispatch import dispatch
from ...kernels.flash_attention import Pairs
from ...parallel.rules import constrain
from ...registry import Registry
from ..config import ModelConfig
from ..context import Context
from ..linear import Projection
from ..mup import query_scale
from ..norms import NORMS
from ..param import declare, zeros
from ..positions import POSITIONS, Asked, Position
from ..watch import keep, keeping
from . import Mixer, State, cache
from .cache import Slots
from .output_gate import GATES, OutputGate

QK_NORMS = ("none", "rms_norm", "layer_norm")
QK_NORMS_OF = ("each head", "all heads")


@dataclasses.dataclass(frozen=True)
class OfScores:
  """Options of what any softmax mixer makes of its scores."""

  position: str = ""  # of these layers; "": model.position
  scale: float = 0.0  # of the scores; 0: 1 / sqrt(H)
  soft_cap: float = 0.0  # c tanh(score / c), arXiv:2408.00118; 0: none
  sinks: bool = False  # a learned score per head without a value, gpt-oss

  def __post_init__(self):
    for key, off in (("scale", "1 / sqrt(H)"), ("soft_cap", "none")):
      if getattr(self, key) < 0:
        raise UserError(
          f"{key}={getattr(self, key)} must be positive, or 0 for {off}"
        )
    if self.position:
      POSITIONS.check(self.position, f"position={self.position!r}")

  def chooses(self) -> Sequence[tuple[Registry, str]]:
    """What an option chooses: it then has options of its own."""
    return [(POSITIONS, self.position)] if self.position else []


@dataclasses.dataclass(frozen=True)
class Options(OfScores):
  qk_norm: str = "none"  # of each head: rms_norm | layer_norm, arXiv:2302.05442
  # each head | all heads: one norm of them all, with a scale for each, OLMo 2's
  qk_norm_of: str = "each head"
  # Queries times log(n) / log(log_n) from position n = log_n on; 0: off. Chiang
  # and Cholak 2022, arXiv:2202.12172.
  log_n: int = 0
  qkv_bias: bool = False  # biases of q, k and v alone, as Qwen's
  o_bias: bool = False  # of the output, as InternLM's besides those
  clip_qkv: float = 0.0  # q, k and v are cut to [-c, c], as MPT's; 0: none
  gate: str = "none"  # of what heads find: channel | head, arXiv:2505.06708

  def __post_init__(self):
    super().__post_init__()
    if self.clip_qkv < 0:
      raise UserError(
        f"clip_qkv={self.clip_qkv} must be positive, or 0 for none"
      )
    for key, words in (
      ("qk_norm", QK_NORMS),
      ("qk_norm_of", QK_NORMS_OF),
      ("gate", GATES),
    ):
      if (word := getattr(self, key)) not in words:
        raise UserError(f"{key}={word!r} is not one of {', '.join(words)}")
    if self.qk_norm == "none" and self.qk_norm_of != QK_NORMS_OF[0]:
      raise UserError(
        f"qk_norm_of={self.qk_norm_of!r}, and there is no qk_norm; choose one,"
        " as in qk_norm=rms_norm"
      )
    if self.log_n < 0 or self.log_n == 1:
      raise UserError(
        f"log_n={self.log_n} must be the tokens of a row in training, 2 or"
        " more; or 0 for none"
      )


def lengths(
  position: Position, segments_BS: Array | None, ctx: Context
) -> Int[Array, "B S"] | None:
  """Tokens so far of the documents of some slots, where the position asks."""
  return cache.lengths(segments_BS, ctx) if position.of_length else None


class Attention(Mixer):
  """softmax(q k^T / sqrt(H)) v with K key heads for N query heads.

  The decode state holds keys and values of `max_len` slots, each slot's
  position and segment, and which slot is next.

  Those that differ in who sees whom override `window` or `mask`.
  """

  positional = True
  mup = True
  word = "attention"
  option_type = Options

  @classmethod
  def position_word(cls, config: ModelConfig) -> str:
    return cls.options(config).position or config.position

  @classmethod
  def check(cls, config: ModelConfig) -> None:
    own, cap = cls.options(config).position, cls.options(config).soft_cap
    entry = POSITIONS[cls.position_word(config)]
    entry.check(config, cls.turned(config))
    if cap and entry.of_scores:
      raise UserError(
        f"model.opts.{cls.word}.soft_cap={cap} caps products of queries and"
        f" keys, and model.position={entry.word!r} adds others; set it to 0, or"
        " choose rope or alibi"
      )
    if own in ("", config.position):
      return
    if POSITIONS[own].embed is not Position.embed:
      raise UserError(
        f"model.opts.{cls.word}.position={own!r} acts on the embeddings,"
        f" before any layer; set model.position={own!r}"
      )

  @classmethod
  def turned(cls, config: ModelConfig) -> int:
    """Dimensions of a head that the position may turn."""
    return config.head_dim

  @classmethod
  def window(cls, config: ModelConfig) -> int:
    """How many tokens one sees, itself among them; 0: all."""
    del config
    return 0

  def mask(self, ctx: Context, slots: Slots) -> Pairs | None:
    """Which of the slots each query sees; None: all that is causal."""
    del ctx, slots

  @property
  def scale(self) -> float:
    return self.options(self.config).scale or self.config.head_dim**-0.5

  @nn.compact
  def __call__(
    self, x_BTX: Float[Array, "B T X"], ctx: Context, state: State | None = None
  ) -> tuple[Float[Array, "B T D"], State | None]:
    c = self.config
    N, H = c.n_heads, c.head_dim
    word = self.position_word(c)
    position = POSITIONS[word](c, name="position")
    q_BTNH, new = self.project(x_BTX, ctx)
    if keeping(self):
      # Scores of all pairs would be [B, N, T, T]; a token's own is one of them.
      k_BTNH = jnp.repeat(new["k"], N // c.n_kv_heads, axis=2)
      keep(self, "own_score", (q_BTNH * k_BTNH).sum(-1) * self.scale)
    if not position.raw_keys:
      new = self.turn_keys(position, new, ctx)
    slots, state = self.remember(state, new, ctx)
    o_BTNH = self.mix(position, q_BTNH, ctx, slots)
    if (of := self.options(c).gate) != "none":
      bias = c.use_bias or self.options(c).qkv_bias
      o_BTNH = OutputGate(c, of, bias, name="output_gate")(x_BTX, o_BTNH)
    out = Projection(
      c,
      "BTNH,NHD->BTD",
      (N, H, c.d_model),
      ("heads", "head_dim", "embed"),
      to_residual=True,
      bias=c.use_bias or self.options(c).o_bias,
      name="o",
    )
    return out(o_BTNH), state

  def project(
    self, x_BTD: Array, ctx: Context
  ) -> tuple[Array, dict[str, Array]]:
    """Queries, and keys k and values v, before any turn."""
    return self.projected(x_BTD, {"": x_BTD}, ctx)

  def projected(
    self,
    x_BTD: Array,
    sources: Mapping[str, Array],
    ctx: Context,
    prefix: str = "",
  ) -> tuple[Array, dict[str, Array]]:
    """Queries of a stream; keys and values of others, k and v after a name.

    Parameters have `prefix` before their names.
    """
    c = self.config
    o = self.options(c)
    N, K, H, D = c.n_heads, c.n_kv_heads, c.head_dim, x_BTD.shape[-1]
    found = {}
    for name, letter, n, heads in (
      ("q", "N", N, "heads"),
      ("k", "K", K, "kv_heads"),
      ("v", "K", K, "kv_heads"),
    ):
      project = Projection(
        c,
        f"BTD,D{letter}H->BT{letter}H",
        (D, n, H),
        ("embed", heads, "head_dim"),
        to_branch=name == "v",
        bias=c.use_bias or o.qkv_bias,
        name=f"{prefix}{name}",
      )
      normed = None
      if o.qk_norm != "none" and name != "v":
        normed = NORMS[o.qk_norm](c, name=f"{prefix}{name}_norm")
      for of, stream_BTD in ({"": x_BTD} if name == "q" else sources).items():
        y = constrain(project(stream_BTD), "batch", "seq", heads, "head_dim")
        if o.clip_qkv:
          y = jnp.clip(y, -o.clip_qkv, o.clip_qkv)
        if normed and o.qk_norm_of == "all heads":
          y = normed(y.reshape(*y.shape[:2], n * H)).reshape(y.shape)
        elif normed:
          y = normed(y)
        found[f"{of}{name}"] = y
    return self._scaled(found.pop("q"), ctx), found

  def _scaled(self, q_BTNH: Array, ctx: Context) -> Array:
    """Queries times what muP and log n ask for."""
    o = self.options(self.config)
    if (scale := query_scale(self.config, bool(o.scale))) != 1:
      q_BTNH *= scale
    if o.log_n:
      n_BT = jnp.maximum(ctx.positions_BT + 1, o.log_n).astype(jnp.float32)
      more_BT11 = (jnp.log(n_BT) / jnp.log(float(o.log_n)))[..., None, None]
      q_BTNH = (q_BTNH * more_BT11).astype(q_BTNH.dtype)
    return q_BTNH

  def turn_keys(
    self, position: Position, new: Mapping[str, Array], ctx: Context
  ) -> dict[str, Array]:
    """What the chunk leaves, its keys turned by their positions."""
    return {**new, "k": self.turn(position, new["k"], ctx)}

  def remember(
    self, state: State | None, new: Mapping[str, Array], ctx: Context
  ) -> tuple[Any, State | None]:
    """The slots that `mix` looks at, and the state after the chunk."""
    if state is None:
      return cache.only_chunk(new, ctx), None
    keep = cache.slide if self.window(self.config) else cache.append
    return keep(state, new, ctx)

  def turn(
    self,
    position: Position,
    x_BTNH: Array,
    ctx: Context,
    at_BT: Array | None = None,
  ) -> Array:
    """The chunk's queries or keys, turned by their positions, or by others."""
    at_BT = ctx.positions_BT if at_BT is None else at_BT
    return position.rotate(x_BTNH, at_BT, lengths(position, None, ctx))

  def mix(
    self, position: Position, q_BTNH: Array, ctx: Context, slots: Any
  ) -> Array:
    """What each query gathers from what `remember` gave."""
    return self.attend(position, q_BTNH, ctx, slots)

  def attend(
    self,
    position: Position,
    q_BTNH: Array,
    ctx: Context,
    slots: Slots,
    *,
    q_positions_BT: Array | None = None,
    reach: int = 0,
    **more: Any,
  ) -> Any:
    """Turns what must be turned, and calls the kernel.

    Args:
      q_positions_BT: others than the context's.
      reach: no distance is as large; 0: that of the slots.
      more: arguments of the kernel in the place of the usual ones.
    """
    at_BT = ctx.positions_BT if q_positions_BT is None else q_positions_BT
    k_BSKH = slots.arrays["k"]
    asked = self.asked(q_BTNH, k_BSKH, ctx, slots)
    asked = asked._replace(
      q_positions_BT=at_BT, reach=reach or slots.positions_BS.shape[1]
    )
    return self.kernel(
      self.turn(position, q_BTNH, ctx, at_BT),
      self.turned_keys(position, slots, ctx),
      slots.arrays["v"],
      ctx,
      slots,
      **{"scores": position.scores(asked), **more},
    )

  def asked(
    self, q_BTNH: Array, k_BSKH: Array, ctx: Context, slots: Slots
  ) -> Asked:
    """What the position is told of queries and keys before any turn."""
    return Asked(
      q_BTNH,
      k_BSKH,
      ctx.positions_BT,
      slots.positions_BS,
      self.scale,
      ctx.causal,
      (ctx.shared or {}).get(self.position_word(self.config)),
      slots.positions_BS.shape[1],
    )

  def turned_keys(
    self, position: Position, slots: Slots, ctx: Context
  ) -> Array:
    """The slots' keys; they are turned here where they were kept raw."""
    k_BSKH = slots.arrays["k"]
    if not position.raw_keys:
      return k_BSKH
    lengths_BS = lengths(position, slots.segments_BS, ctx)
    return position.rotate(k_BSKH, slots.positions_BS, lengths_BS)

  def kernel(
    self,
    q_BTNH: Array,
    k_BSKH: Array,
    v_BSKV: Array,
    ctx: Context,
    slots: Slots,
    **more: Any,
  ) -> Any:
    """The kernel on queries and keys that are turned, as the options say."""
    c = self.config
    o = self.options(c)
    sinks_N = None
    if o.sinks:
      sinks_N = declare(
        self, "sinks", zeros, (c.n_heads,), ("heads",), c.param_dtype
      )
    whole = slots.segments_BS is None
    usual = {
      "causal": ctx.causal,
      "window": self.window(c),
      "q_offset": slots.offset,
      "q_segments_BT": None if whole else cache.segments_of(ctx),
      "k_segments_BS": slots.segments_BS,
      "mask": self.mask(ctx, slots),
      "scale": self.scale,
      "soft_cap": o.soft_cap,
      "sinks_N": sinks_N,
    }
    attend = dispatch("flash_attention", c.implementation)
    return attend(q_BTNH, k_BSKH, v_BSKV, **(usual | more))

  @classmethod
  def slot_shapes(cls, config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """What one slot of the cache holds."""
    shape = (config.n_kv_heads, config.head_dim)
    return {"k": shape, "v": shape}

  @classmethod
  def slots(cls, config: ModelConfig, max_len: int) -> int:
    """Slots of the cache."""
    return min(cls.window(config) or max_len, max_len)

  @classmethod
  def init_state(cls, config: ModelConfig, batch: int, max_len: int) -> State:
    shapes, slots = cls.slot_shapes(config), cls.slots(config, max_len)
    state = cache.init(shapes, config.compute_dtype, batch, slots)
    if cls.window(config):
      return state
    return {**state, "next": jnp.zeros((), jnp.int32)}

  @classmethod
  def state_numbers(cls, config: ModelConfig, max_len: int) -> int:
    of_slot = sum(map(math.prod, cls.slot_shapes(config).values()))
    return cls.slots(config, max_len) * (of_slot + 2)
