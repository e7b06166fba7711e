"""MIXERS: what moves information between tokens.

A new mixer is one file here and one line below, and `ablax prove mixer` then
covers it.
"""

from typing import Any, ClassVar

import flax.linen as nn
from jaxtyping import Array, Float

from ...registry import Registry
from ..config import ModelConfig
from ..context import Context

# One layer's decode state: a pytree of arrays, batch first where there is one.
State = Any


class Mixer(nn.Module):
  """The contract: one call serves training, prefill and decoding.

  Attributes:
    word: its own in the registry, under which `model.opts` has its options.
    option_type: of these; None: it has none.
    causal: no output depends on a later token.
    batch_dependent: an example's output depends on the others.
    decodable: has a state, so that text can be generated.
    of_source: reads `ctx.source_BTD`, the stream before `model.pattern` began.
    of_embedding: reads `ctx.embedded_BTD`, the stream before any layer.
    of_stream: is given the stream as it is, and norms it itself.
    positional: an entry of POSITIONS acts within it.
    mup: muP has rules for all of it, which `ablax prove mup` finds to hold.
  """

  config: ModelConfig

  word: ClassVar[str] = ""
  option_type: ClassVar[Any] = None
  causal: ClassVar[bool] = True
  batch_dependent: ClassVar[bool] = False
  decodable: ClassVar[bool] = True
  of_source: ClassVar[bool] = False
  of_embedding: ClassVar[bool] = False
  of_stream: ClassVar[bool] = False
  positional: ClassVar[bool] = False
  mup: ClassVar[bool] = False

  @classmethod
  def options(cls, config: ModelConfig) -> Any:
    return config.options(cls.word, cls.option_type())

  @classmethod
  def check(cls, config: ModelConfig) -> None:
    """Raises UserError where the model can't have this mixer."""
    del config

  @classmethod
  def position_word(cls, config: ModelConfig) -> str:
    """The entry of POSITIONS that it uses; "": none of its own."""
    del config
    return ""

  def __call__(
    self, x_BTD: Float[Array, "B T D"], ctx: Context, state: State | None = None
  ) -> (
    tuple[Float[Array, "B T D"], State | None]
    | tuple[Float[Array, "B T D"], State | None, Array]
  ):
    """Mixes a chunk of any length >= 1, after what `state` has seen.

    Returns:
      [B, T, D]; the state after it, None without one; what `passed` announces.
    """
    raise NotImplementedError(f"{type(self).__name__} must define __call__")

  @classmethod
  def init_state(cls, config: ModelConfig, batch: int, max_len: int) -> State:
    """The state before the first token, for one layer."""
    raise NotImplementedError(
      "a mixer must define init_state, or set decodable = False"
    )

  @classmethod
  def passed(cls, config: ModelConfig) -> tuple[int, ...] | None:
    """Shape of what it passes on to later layers, of each token; None: nothing.

    `__call__` then returns it too, as a third. Later layers of the kind find
    what the first one passed on in `ctx.first_values`; None: this is the first.
    """
    del config
    return None

  @classmethod
  def tied(cls, config: ModelConfig) -> nn.Module | None:
    """A module of which all its layers have the same parameters; None: none.

    It is called as `tied(config).apply({"params": ctx.tied[word]}, ...)`, and
    declares the parameters when called with [B, T, D] twice and a context.
    """
    del config
    return None

  @classmethod
  def state_numbers(cls, config: ModelConfig, max_len: int) -> int:
    """How many numbers of one layer's state belong to one example."""
    raise NotImplementedError(
      "a mixer with a decode state must define state_numbers, its size"
    )


MIXERS = Registry(
  "mixer",
  "model.mixer",
  __name__,
  {
    "attention": "attention:Attention",
    "sliding_window": "sliding_window:SlidingWindow",
    "cross_attention": "cross_attention:CrossAttention",
    "segment_recurrence": "segment_recurrence:SegmentRecurrence",
    "streaming": "streaming:Streaming",
    "differential": "differential:Differential",
    "mla": "mla:MLA",
    "strided": "strided:Strided",
    "fixed": "fixed:Fixed",
    "longformer": "longformer:Longformer",
    "bigbird": "bigbird:BigBird",
    "native_sparse": "native_sparse:NativeSparse",
    "linear_attention": "linear_attention:LinearAttention",
    "retention": "retention:Retention",
    "lightning_attention": "lightning_attention:LightningAttention",
    "gla": "gla:GLA",
    "delta_net": "delta_net:DeltaNet",
    "gated_delta_net": "gated_delta_net:GatedDeltaNet",
    "mamba": "mamba:Mamba",
    "mamba2": "mamba2:Mamba2",
    "mamba3": "mamba3:Mamba3",
    "mlstm": "mlstm:MLSTM",
    "rwkv4": "rwkv4:RWKV4",
    "rwkv5": "rwkv5:RWKV5",
    "rwkv6": "rwkv6:RWKV6",
    "rwkv7": "rwkv7:RWKV7",
    "slstm": "slstm:SLSTM",
    "s4d": "s4d:S4D",
    "h3": "h3:H3",
    "rg_lru": "rg_lru:RGLRU",
    "min_gru": "min_gru:MinGRU",
    "hyena": "hyena:Hyena",
    "multi_hyena": "multi_hyena:MultiHyena",
    "parallel_heads": "parallel_heads:ParallelHeads",
    "shared_block": "shared_block:SharedBlock",
    "ttt_linear": "ttt_linear:TTTLinear",
  },
)
