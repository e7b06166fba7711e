"""Rotary position embedding (Su et al. 2021, arXiv:2104.09864)."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ...errors import UserError
from ..config import ModelConfig
from . import Position

PAIRINGS = ("halves", "interleaved")


@dataclasses.dataclass(frozen=True)
class Options:
  rope_theta: float = 10_000.0  # base of the wavelengths
  pairing: str = (
    "halves"  # (i, i + R/2), as Llama's | interleaved, (2i, 2i + 1)
  )
  fraction: float = 1.0  # R/H, the share of a head's dimensions that are turned

  def __post_init__(self):
    if self.rope_theta <= 0:
      raise UserError(f"rope_theta={self.rope_theta} must be positive")
    if self.pairing not in PAIRINGS:
      raise UserError(
        f"pairing={self.pairing!r} is not one of {', '.join(PAIRINGS)}"
      )
    if not 0 < self.fraction <= 1:
      raise UserError(f"fraction={self.fraction} must be in (0, 1]")


@dataclasses.dataclass(frozen=True)
class Stretched(Options):
  """Options of what stretches RoPE to longer texts."""

  factor: float = 8.0  # by which the context grows; at least 1

  def __post_init__(self):
    super().__post_init__()
    if self.factor < 1:
      raise UserError(
        f"factor={self.factor} must be at least 1: the context grows by it"
      )


@dataclasses.dataclass(frozen=True)
class Scaled(Stretched):
  """Of what must know the length of rows in training."""

  original_len: int = 0  # tokens trained at; 0: model.max_len / factor

  def __post_init__(self):
    super().__post_init__()
    if self.original_len < 0:
      raise UserError(
        f"original_len={self.original_len} must be positive, or 0 for"
        " model.max_len / factor"
      )


class RoPE(Position):
  """Turns each pair i of a head by position * theta^(-2i/R).

  What stretches the context overrides `frequencies`, and `amplitude`.
  """

  word = "rope"
  option_type = Options

  @property
  def options(self) -> Any:
    return self.config.options(self.word, self.option_type())

  @classmethod
  def check(cls, config: ModelConfig, size: int) -> None:
    super().check(config, size)
    cls(config).dims(size)

  @classmethod
  def stretched(cls, rope: Options, trained: int, length: int) -> Any:
    """Returns its options where a model of RoPE reads rows of a length.

    Args:
      rope: what it was trained with.
      trained: tokens of a row in training.
    """
    known = {f.name for f in dataclasses.fields(cls.option_type)}
    said = {"factor": length / trained, "original_len": trained}
    own = {key: value for key, value in said.items() if key in known}
    return cls.option_type(**vars(rope), **own)

  @property
  def original_len(self) -> int:
    """Tokens of a row while the model was trained."""
    o = self.options
    return o.original_len or max(1, round(self.config.max_len / o.factor))

  def dims(self, H: int) -> int:
    """R, how many of H dimensions are turned.

    Raises:
      UserError: they are no pairs.
    """
    R = round(H * self.options.fraction)
    if R % 2 or not R:
      raise UserError(
        f"model.position={self.word!r} turns pairs, and {R} of"
        f" model.head_dim={H} dimensions are none; make the head's size even,"
        f" or change model.opts.{self.word}.fraction={self.options.fraction}"
      )
    return R

  def frequencies(
    self, R: int, lengths_BT: Int[Array, "B T"] | None
  ) -> Float[Array, "... r"]:
    """Radians per token of each pair: [r], or [B, T, r]."""
    del lengths_BT
    return wavelengths(self.options.rope_theta, R)

  @property
  def amplitude(self) -> float:
    """What the turned vectors are multiplied by."""
    return 1.0

  def rotate(
    self,
    x_BTNH: Float[Array, "B T N H"],
    positions_BT: Int[Array, "B T"],
    lengths_BT: Int[Array, "B T"] | None = None,
  ) -> Float[Array, "B T N H"]:
    R = self.dims(x_BTNH.shape[-1])
    frequency = self.frequencies(R, lengths_BT)
    # fp32: bf16 angles are wrong by whole turns from position 256 on.
    angle_BTr = positions_BT[..., None].astype(jnp.float32) * frequency
    cos = (jnp.cos(angle_BTr) * self.amplitude)[:, :, None]
    sin = (jnp.sin(angle_BTr) * self.amplitude)[:, :, None]
    x32, rest = x_BTNH[..., :R].astype(jnp.float32), x_BTNH[..., R:]
    if self.options.pairing == "halves":
      x1, x2 = jnp.split(x32, 2, axis=-1)
    else:
      x1, x2 = x32[..., 0::2], x32[..., 1::2]
    pair = x1 * cos - x2 * sin, x2 * cos + x1 * sin
    if self.options.pairing == "halves":
      turned = jnp.concatenate(pair, axis=-1)
    else:
      turned = jnp.stack(pair, axis=-1).reshape(x32.shape)
    turned = turned.astype(x_BTNH.dtype)
    return jnp.concatenate([turned, rest], axis=-1) if rest.size else turned


def wavelengths(theta: Any, R: int) -> Float[Array, "... r"]:
  """theta^(-2i/R), in fp32; one row for each theta."""
  exponent = -jnp.arange(0, R, 2, dtype=jnp.float32) / R
  return jnp.asarray(theta, jnp.float32)[..., None] ** exponent
