"""The eval, checkpoint and log namespaces; units in configs/base.py."""

import dataclasses
import math

from ..errors import UserError, nearest


@dataclasses.dataclass(frozen=True)
class EvalConfig:
  """When to evaluate, and the samples after training."""

  every: int
  prompts: tuple[str, ...]
  sample_tokens: int
  temperature: float
  stretch: str = ""

  def __post_init__(self):
    if self.every < 0:
      raise UserError(
        f"eval.every={self.every} must be positive, or 0 for only at the end"
      )
    if self.sample_tokens < 1:
      raise UserError(
        f"eval.sample_tokens={self.sample_tokens} must be at least 1; for no"
        " samples set eval.prompts=()"
      )
    if not 0 <= self.temperature < math.inf:
      raise UserError(
        f"eval.temperature={self.temperature} must be positive, or 0 for"
        " always the likeliest token"
      )


HELDOUT = ("bits_per_byte", "loss")  # metrics of an evaluation


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
  """When to save and what to keep."""

  every: int
  keep: int
  best: str

  def __post_init__(self):
    if self.every < 0:
      raise UserError(
        f"checkpoint.every={self.every} must be positive, or 0 for only at"
        " the end"
      )
    if self.keep < 1:
      raise UserError(f"checkpoint.keep={self.keep} must be at least 1")
    if self.best not in HELDOUT:
      raise UserError(
        f"checkpoint.best={self.best!r} is not a held-out metric"
        f"{nearest(self.best, HELDOUT)}"
      )


WANDB = ("", "online", "offline")


@dataclasses.dataclass(frozen=True)
class LogConfig:
  """What a person sees while it runs."""

  every: int
  progress: bool
  spike: float
  detail: int
  noise_scale: bool
  wandb: str
  project: str

  def __post_init__(self):
    if self.every < 1:
      raise UserError(f"log.every={self.every} must be at least 1")
    if self.detail < 0:
      raise UserError(
        f"log.detail={self.detail} must be positive, or 0 for never"
      )
    if self.wandb not in WANDB:
      raise UserError(
        f"log.wandb={self.wandb!r} is not one of online, offline, '' (none)"
      )
    if not self.project:
      raise UserError("log.project='' names no project of Weights & Biases")
