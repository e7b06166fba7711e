"""Cosine decay (Loshchilov and Hutter 2017, arXiv:1608.03983)."""

import dataclasses

import jax.numpy as jnp

from ..ranges import require


@dataclasses.dataclass(frozen=True)
class Options:
  final_factor: float = 0.1  # of the peak, at the last step

  def __post_init__(self):
    require("cosine", self, "at least 0", "final_factor")


def cosine(step, steps, warmup, options: Options):
  del warmup
  fall = 0.5 * (1 + jnp.cos(jnp.pi * step / steps))
  return options.final_factor + (1 - options.final_factor) * fall
