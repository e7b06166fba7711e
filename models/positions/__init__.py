"""POSITIONS: how a model knows the order of its tokens.

A new encoding is one file here and one line below.
"""

from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
from jaxtyping import Array, Float, Int

from ...errors import UserError
from ...kernels.flash_attention import Pairs
from ...registry import Registry
from ..config import ModelConfig


class Asked(NamedTuple):
  """Which scores a mixer asks for.

  Attributes:
    q_BTNH, k_BSKH: as projected, before any turn.
    q_positions_BT, k_positions_BS: within the document.
    scale: that products of the two are multiplied by.
    causal: no key after its query counts.
    shared: what the position's `once` made before the layers.
    reach: no distance is larger, or as large.
  """

  q_BTNH: Float[Array, "B T N H"]
  k_BSKH: Float[Array, "B S K H"]
  q_positions_BT: Int[Array, "B T"]
  k_positions_BS: Int[Array, "B S"]
  scale: float
  causal: bool
  shared: Any
  reach: int


class Position(nn.Module):
  """The places where an encoding may act; each does nothing here.

  Attributes:
    word: under which its options are.
    relative: only distances count, so that a cache may number its own slots.
    of_content: `scores` reads queries and keys.
    of_scores: `scores` adds products of its own, which a cap would miss.
    raw_keys: keys are cached as projected and turned when they are read.
    of_length: `rotate` follows the length of the document so far, so that in
      one pass what comes later tells on what was before.
    mup: muP's rules cover what it adds.
  """

  config: ModelConfig

  word: ClassVar[str] = ""
  relative: ClassVar[bool] = True
  of_content: ClassVar[bool] = False
  of_scores: ClassVar[bool] = False
  raw_keys: ClassVar[bool] = False
  of_length: ClassVar[bool] = False
  mup: ClassVar[bool] = True

  @classmethod
  def check(cls, config: ModelConfig, size: int) -> None:
    """Raises UserError where the model can't have it.

    Args:
      size: of what `rotate` is given.
    """
    del size
    if config.mup_base and not cls.mup:
      raise UserError(
        f"model.mup_base={config.mup_base}: muP has no rule for what"
        f" model.position={cls.word!r} adds; set it to 0, or choose rope,"
        " alibi, learned or none"
      )

  @classmethod
  def once(cls, config: ModelConfig) -> nn.Module | None:
    """A module that is called once, before the layers, for all of them.

    Its result reaches `scores` as `Asked.shared`.
    """
    del config

  def embed(
    self, x_BTD: Float[Array, "B T D"], positions_BT: Int[Array, "B T"]
  ) -> Float[Array, "B T D"]:
    """Acts on the token embeddings."""
    del positions_BT
    return x_BTD

  def rotate(
    self,
    x_BTNH: Float[Array, "B T N H"],
    positions_BT: Int[Array, "B T"],
    lengths_BT: Int[Array, "B T"] | None = None,
  ) -> Float[Array, "B T N H"]:
    """Acts on queries, and on keys.

    Args:
      lengths_BT: tokens that each one's document has so far; None: no more
        than in training.
    """
    del positions_BT, lengths_BT
    return x_BTNH

  def scores(self, asked: Asked) -> Pairs | None:
    """A map of scaled scores; None: none."""
    del asked


def check_row(word: str, config: ModelConfig, length: int) -> None:
  """Raises UserError where a row is longer than the table of positions."""
  if length > config.max_len:
    raise UserError(
      f"model.position={word!r} has a table of model.max_len={config.max_len}"
      f" positions, and a row has {length} tokens; raise model.max_len, or"
      " choose an encoding that has no table, such as rope"
    )


POSITIONS = Registry(
  "position",
  "model.position",
  __name__,
  {
    "none": "none:NoPosition",
    "learned": "learned:Learned",
    "sinusoidal": "sinusoidal:Sinusoidal",
    "rope": "rope:RoPE",
    "linear": "linear:Linear",
    "ntk": "ntk:NTK",
    "dynamic_ntk": "dynamic_ntk:DynamicNTK",
    "consistent_ntk": "consistent_ntk:ConsistentNTK",
    "yarn": "yarn:YaRN",
    "llama3": "llama3:Llama3",
    "longrope": "longrope:LongRoPE",
    "rerope": "rerope:ReRoPE",
    "alibi": "alibi:ALiBi",
    "t5": "t5:T5Bias",
    "transformer_xl": "transformer_xl:TransformerXL",
    "tupe": "tupe:TUPE",
    "deberta": "deberta:DeBERTa",
  },
)
