"""A model trained with RoPE reads longer rows by other angles."""

import dataclasses

from ...errors import UserError
from ...registry import Opts
from ..config import ModelConfig
from . import POSITIONS
from .rope import Options, RoPE


def stretched(
  config: ModelConfig, word: str, trained: int, length: int
) -> ModelConfig:
  """Returns the model that reads rows of a length.

  Args:
    word: of POSITIONS, what takes RoPE's place in rows longer than `trained`.
    trained: tokens of a row in training.

  Raises:
    UserError: the model has no RoPE, or the entry is no form of it.
  """
  if config.position != "rope":
    raise UserError(
      f"eval.stretch={word!r} takes the place of rope in longer rows, and"
      f" model.position={config.position!r}; set it to '', or train with rope"
    )
  if word not in POSITIONS or not issubclass(POSITIONS[word], RoPE):
    forms = [w for w in POSITIONS if issubclass(POSITIONS[w], RoPE)]
    raise UserError(
      f"eval.stretch={word!r} is no form of rope; choose one of"
      f" {', '.join(forms)}, or ''"
    )
  if length <= trained:
    return config
  own = POSITIONS[word].stretched(
    config.options("rope", Options()), trained, length
  )
  opts = Opts({**config.opts, word: own})
  return dataclasses.replace(config, position=word, opts=opts)
