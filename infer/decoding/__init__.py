"""DECODERS: how a continuation is searched for.

An entry is a class, one file; it sees blocks of prefilled prompts and knows
nothing of their order, their lengths or their neighbours.
"""

from typing import Any, ClassVar

from ...registry import Registry
from ..session import Block
from ..settings import Sampling
from ..text import Completion


class Decoder:
  """The contract.

  Attributes:
    draws: tokens are drawn; else the settings of the draw are refused.
    streams: it calls the session's `on_text` as text appears; else `generate`
      does, once a completion is ready.

  Args:
    options: the file's `Options`.

  Raises:
    UserError: options and settings that exclude each other.
  """

  draws: ClassVar[bool] = True
  streams: ClassVar[bool] = False

  def __init__(self, options: Any, sampling: Sampling):
    raise NotImplementedError(f"{type(self).__name__} must define __init__")

  def decode(self, block: Block) -> list[list[Completion]]:
    """`sampling.n` completions of each prompt, the best first."""
    raise NotImplementedError(f"{type(self).__name__} must define decode")


DECODERS = Registry(
  "decoding",
  "decoding",
  __name__,
  {
    "sample": "sample:Sample",
    "best_of_n": "best_of_n:BestOfN",
    "beam": "beam:Beam",
    "diverse_beam": "diverse_beam:DiverseBeam",
    "contrastive": "contrastive:Contrastive",
    "nbce": "nbce:NBCE",
  },
)
