"""Attention beside recurrent heads (Dong et al. 2024, arXiv:2411.13676).

As Falcon-H1 has them (Zuo et al. 2025, arXiv:2507.22448): each branch has a
projection of its own, and what they give is added. Hymba norms the branches
and projects them together.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import flax.linen as nn

from ...errors import UserError
from . import MIXERS
from .composed import Composed


@dataclasses.dataclass(frozen=True)
class Options:
  mixers: tuple[str, ...] = ("attention", "mamba2")  # one of them softmax's
  # Of what goes into each, and of what comes out: Falcon-H1's.
  multipliers_in: tuple[float, ...] = (1.0, 1.0)
  multipliers_out: tuple[float, ...] = (1.0, 1.0)

  def __post_init__(self):
    if len(set(self.mixers)) < max(2, len(self.mixers)):
      raise UserError(
        f"mixers={self.mixers} must be two or more that differ, as in"
        " attention,mamba2"
      )
    for word in self.mixers:
      MIXERS.check(word, f"mixers={self.mixers}: {word!r}")
      if word == ParallelHeads.word:
        raise UserError(f"mixers={self.mixers} would never end; drop {word!r}")
    for key in ("multipliers_in", "multipliers_out"):
      given = getattr(self, key)
      if len(given) != len(self.mixers) or min(given) <= 0:
        raise UserError(
          f"{key}={given} must be positive, one for each of"
          f" mixers={self.mixers}"
        )

  def chooses(self) -> Iterator[tuple[Any, str]]:
    for word in self.mixers:
      yield MIXERS, word


class ParallelHeads(Composed):
  """sum_i out_i mixer_i(in_i x); the state holds that of each, by its word."""

  word = "parallel_heads"
  option_type = Options
  positional = True

  @classmethod
  def parts(cls, config):
    return {word: MIXERS[word] for word in cls.options(config).mixers}

  @classmethod
  def check(cls, config):
    branches = cls.parts(config)
    key = f"model.opts.{cls.word}.mixers={tuple(branches)}"
    for word, entry in branches.items():
      more = entry.of_source or entry.of_stream or entry.passed(config)
      more = more or entry.batch_dependent
      if more or not (entry.causal and entry.decodable):
        raise UserError(
          f"{key}: a branch must be causal, decode, and look at nothing but the"
          f" layer's own input, and {word!r} does not; choose another"
        )
      entry.check(config)
    if sum(entry.positional for entry in branches.values()) != 1:
      raise UserError(
        f"{key} must have one branch of softmax attention, which knows"
        " positions; as in attention,mamba2"
      )

  @classmethod
  def position_word(cls, config):
    words = [e.position_word(config) for e in cls.parts(config).values()]
    return next(filter(None, words), "")

  @nn.compact
  def __call__(self, x_BTD, ctx, state=None):
    o, parts, after = self.options(self.config), [], {}
    for word, into, out in zip(
      o.mixers, o.multipliers_in, o.multipliers_out, strict=True
    ):
      mixer = MIXERS[word](self.config, name=word)
      before = state[word] if state else None
      y_BTD, after[word] = mixer(into * x_BTD, ctx, before)
      parts.append(out * y_BTD)
    return sum(parts[1:], parts[0]), after if state else None
