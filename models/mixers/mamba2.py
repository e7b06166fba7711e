"""Mamba-2: state space duality (Dao and Gu 2024, arXiv:2405.21060)."""

import dataclasses

import jax
import jax.numpy as jnp

from ...errors import UserError, at_least
from ...kernels.dispatch import dispatch
from ..config import ModelConfig
from ..param import declare, ones
from .decay import Steps
from .recurrence import HEADS, HeadNorm, Leaf, Recurrence, ShortConv

MULTIPLIED: tuple[str, ...] = ("gate", "x", "b", "c", "dt")


@dataclasses.dataclass(frozen=True)
class SizeOptions:
  """Sizes of what Mamba-2 and Mamba-3 share."""

  expand: int = 2  # channels, times model.d_model
  channels: int = 0  # 0: expand times model.d_model
  state: int = 64  # numbers that each channel keeps, K; published models: 128
  head_dim: int = 0  # channels of a head; 0: as many heads as model.n_heads
  groups: int = 1  # sets of B and C, each of as many heads

  def __post_init__(self):
    at_least(1, self, "expand", "state", "groups")
    at_least(0, self, "channels")
    if self.head_dim < 0:
      raise UserError(
        f"head_dim={self.head_dim} must be positive, or 0 for as many heads as"
        " model.n_heads"
      )


@dataclasses.dataclass(frozen=True)
class Options(SizeOptions):
  conv: int = 4  # tokens of the convolutions; 1: the token's own
  norm: bool = True  # of what comes out, by group; Falcon-H1 has none
  # Of gate, x, B, C and dt as they are projected: Falcon-H1's (Zuo et al. 2025,
  # arXiv:2507.22448).
  multipliers: tuple[float, ...] = (1.0,) * 5

  def __post_init__(self):
    super().__post_init__()
    at_least(1, self, "conv")
    if len(self.multipliers) != 5 or min(self.multipliers) <= 0:
      raise UserError(
        f"multipliers={self.multipliers} must be five positive numbers, of"
        f" {', '.join(MULTIPLIED)}"
      )


class HeadsOfChannels(Recurrence):
  """A wider stream of channels, cut into heads; B and C by groups of heads."""

  @classmethod
  def channels(cls, config: ModelConfig) -> int:
    o = cls.options(config)
    return o.channels or o.expand * config.d_model

  @classmethod
  def sizes(cls, config: ModelConfig) -> tuple[int, int]:
    """Heads, and channels of each."""
    o, E = cls.options(config), cls.channels(config)
    if o.head_dim:
      return E // o.head_dim, o.head_dim
    return config.n_heads, E // config.n_heads

  @classmethod
  def check(cls, config):
    o, (N, V) = cls.options(config), cls.sizes(config)
    if (E := cls.channels(config)) != N * V:
      key = f"model.opts.{cls.word}"
      raise UserError(
        f"model.mixer={cls.word!r} has {E} channels, {key}.channels or"
        f" {key}.expand times model.d_model, which"
        f" {f'heads of {o.head_dim}' if o.head_dim else f'{N} heads'} do not"
        f" divide; change {key}.head_dim"
      )
    if N % o.groups:
      raise UserError(
        f"model.opts.{cls.word}.groups={o.groups} does not divide its {N}"
        " heads; set it to 1, or to a divisor"
      )


class Mamba2(HeadsOfChannels):
  """Linear attention with one decay a head, in a gated block.

  B and C are its keys and queries, steps times x its values.
  """

  word = "mamba2"
  option_type = Options

  @classmethod
  def leaves(cls, config):
    o, (N, V) = cls.options(config), cls.sizes(config)
    W, G, dtype = o.conv - 1, o.groups, config.compute_dtype
    return {
      "state": Leaf((N, o.state, V)),
      "conv_x": Leaf((W, N, V), dtype),
      "conv_b": Leaf((W, G, o.state), dtype),
      "conv_c": Leaf((W, G, o.state), dtype),
    }

  def mix(self, x_BTD, ctx, starts_BT, state):
    c, o = self.config, self.options(self.config)
    G, K, (N, V) = o.groups, o.state, self.sizes(self.config)
    found, kept = {}, {}
    of_groups = ("latent", "head_dim")
    of = dict(zip(MULTIPLIED, o.multipliers, strict=True))
    for name, shape, axes in (
      ("x", (N, V), HEADS),
      ("b", (G, K), of_groups),
      ("c", (G, K), of_groups),
    ):
      y = of[name] * self.into(x_BTD, name, shape, axes, to_branch=True)
      conv = ShortConv(c, o.conv, shape, axes, bias=True, name=f"conv_{name}")
      y, kept[f"conv_{name}"] = conv(y, starts_BT, state[f"conv_{name}"])
      found[name] = jax.nn.silu(y)
    gate_BTNV = self.into(x_BTD, "gate", (N, V), HEADS, to_branch=True)
    gate_BTNV *= of["gate"]
    steps = Steps(c, N, 1.0, 16.0, of["dt"], name="decay")
    dt_BTN1, g_BTN1 = steps(x_BTD)
    skip_N = declare(self, "skip", ones, (N,), ("heads",), c.param_dtype)
    x_BTNV = found["x"].astype(jnp.float32)
    y_BTNV, after = dispatch("linear_scan", c.implementation)(
      found["c"],
      found["b"],
      dt_BTN1 * x_BTNV,
      g_BTN1,
      starts_BT,
      state["state"],
    )
    y_BTNV += skip_N[:, None] * x_BTNV
    y_BTNV *= jax.nn.silu(gate_BTNV.astype(jnp.float32))
    if not o.norm:
      return self.out(y_BTNV), {"state": after, **kept}
    norm = HeadNorm(c, scale="each", over=N // G, name="norm")
    return self.out(norm(y_BTNV)), {"state": after, **kept}
