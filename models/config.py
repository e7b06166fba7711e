"""The model namespace of the config, checked."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..errors import UserError, nearest
from ..kernels.dispatch import check_word
from ..registry import Opts

PARAM_DTYPES = ("float32", "bfloat16")
COMPUTE_DTYPES = ("float32", "bfloat16", "float16")
RESIDUALS = (
  *("pre", "post", "after", "sandwich"),
  *("parallel", "parallel_norms", "deep_norm"),
)
# The stream itself is normed: nothing is left to the end.
NORMED_AFTER = ("post", "deep_norm")
MUP_GROWS = ("n_heads", "head_dim")


def default_ff_dim(d_model: int) -> int:
  return -(-d_model * 8 // 3 // 16) * 16


class Layer(NamedTuple):
  """What a word of `model.pattern` stands for: entries of MIXERS and FFNS."""

  mixer: str
  ffn: str

  @classmethod
  def of(cls, word: str, ffn: str) -> "Layer":
    """`MIXER`, with the given ffn, or `MIXER/FFN`."""
    mixer, slash, own = word.partition("/")
    return cls(mixer, own if slash else ffn)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """An architecture; units and meaning in configs/base.py.

  `n_kv_heads`, `head_dim` and `ff_dim` of 0 are replaced by what they stand
  for. `opts` holds the options of every chosen entry.

  Raises:
    UserError: sizes that do not divide, or an unknown word.
  """

  d_model: int
  n_layers: int
  n_heads: int
  n_kv_heads: int
  head_dim: int
  ff_dim: int
  vocab_size: int
  max_len: int
  pattern: tuple[str, ...]
  first: tuple[str, ...]
  position: str
  ffn: str
  norm: str
  norm_eps: float
  residual: str
  tie_embeddings: bool
  output_bias: bool
  embed_rank: int
  tie_embed_maps: bool
  n_ahead: int
  embed_scale: float
  embed_norm: bool
  use_bias: bool
  dropout: float
  stochastic_depth: float
  init_scale: float
  mup_base: int
  mup_grows: str
  logits_soft_cap: float
  param_dtype: str
  compute_dtype: str
  matmul: str
  remat: str
  scan_unroll: int
  implementation: str
  opts: Opts

  def __post_init__(self):
    for key in ("d_model", "n_layers", "n_heads", "max_len", "scan_unroll"):
      if getattr(self, key) < 1:
        raise UserError(f"model.{key}={getattr(self, key)} must be at least 1")
    if self.n_ahead < 0:
      raise UserError(
        f"model.n_ahead={self.n_ahead} must be the tokens to predict besides"
        " the next one, or 0"
      )
    for key in ("n_kv_heads", "head_dim", "ff_dim", "vocab_size", "embed_rank"):
      if getattr(self, key) < 0:
        raise UserError(
          f"model.{key}={getattr(self, key)} must be positive, or 0 for its"
          " default"
        )
    if not self.n_kv_heads:
      object.__setattr__(self, "n_kv_heads", self.n_heads)
    if self.n_heads % self.n_kv_heads:
      raise UserError(
        f"model.n_heads={self.n_heads} is not a multiple of"
        f" model.n_kv_heads={self.n_kv_heads}; use a divisor of"
        f" {self.n_heads}"
      )
    if not self.head_dim:
      if self.d_model % self.n_heads:
        raise UserError(
          f"model.d_model={self.d_model} is not a multiple of"
          f" model.n_heads={self.n_heads}; change one, or set model.head_dim"
        )
      object.__setattr__(self, "head_dim", self.d_model // self.n_heads)
    if not self.ff_dim:
      object.__setattr__(self, "ff_dim", default_ff_dim(self.d_model))
    if not self.pattern:
      raise UserError("model.pattern=() names no mixer; name at least one")
    if len(self.first) > self.n_layers:
      raise UserError(
        f"model.first={self.first} names {len(self.first)} layers, and"
        f" model.n_layers={self.n_layers}; drop some"
      )
    if not 0 <= self.dropout < 1:
      raise UserError(f"model.dropout={self.dropout} must be in [0, 1)")
    if not 0 <= self.stochastic_depth < 1:
      raise UserError(
        f"model.stochastic_depth={self.stochastic_depth} must be in [0, 1)"
      )
    if self.stochastic_depth and self.n_layers == 1:
      raise UserError(
        f"model.stochastic_depth={self.stochastic_depth} drops nothing with"
        " model.n_layers=1: the rate rises from 0 at the first layer; set it"
        " to 0"
      )
    self._one_of("residual", RESIDUALS)
    self._one_of("param_dtype", PARAM_DTYPES)
    self._one_of("compute_dtype", COMPUTE_DTYPES)
    from .block import REMAT
    from .norms import NORMS

    self._one_of("remat", tuple(REMAT))
    NORMS.module(self.norm)  # it is there
    check_word("model.implementation", self.implementation)
    from .ffn import FFNS
    from .mixers import MIXERS

    mixers = [MIXERS[mixer] for mixer in self.mixers]
    for entry in (*mixers, *(FFNS[ffn] for ffn in self.ffns)):
      entry.check(self)
    self._check_position(
      [mixer.position_word(self) for mixer in mixers if mixer.positional]
    )
    if self.embed_scale <= 0:
      raise UserError(
        f"model.embed_scale={self.embed_scale} must be positive; 1 leaves"
        " embeddings as they are"
      )
    if not self.tie_embed_maps and not (
      self.embed_rank and self.tie_embeddings
    ):
      raise UserError(
        "model.tie_embed_maps=False has no maps to keep apart without a"
        " factorized table that is tied: set model.embed_rank and"
        " model.tie_embeddings, or leave it True"
      )
    if self.embed_norm and self.norm == "none":
      raise UserError(
        "model.embed_norm=True has no norm: model.norm='none'; set it to False,"
        " or choose another norm"
      )
    if self.residual == "deep_norm" and self.norm == "none":
      raise UserError(
        "model.residual='deep_norm' multiplies the residual stream, and"
        " model.norm='none' never brings it back; choose another norm"
      )
    if self.mup_grows:
      self._one_of("mup_grows", MUP_GROWS)
    if self.mup_base:
      self._check_mup()

  def _check_position(self, words: Sequence[str]) -> None:
    """Refuses a position that nothing uses: its arms would be one model."""
    from .positions import POSITIONS, Position

    acts = POSITIONS[self.position].embed is not Position.embed
    if acts or self.position in words:
      return
    if not words and self.position != "none":
      raise UserError(
        f"model.position={self.position!r} acts on queries and keys of softmax"
        f" attention, and model.pattern={self.pattern} has none; set it to"
        " none, or to learned or sinusoidal, which act on the embeddings"
      )
    if words and all(words):
      raise UserError(
        f"model.position={self.position!r} is used by no layer: all have"
        f" another of their own; set it to {words[0]!r}"
      )

  def _check_mup(self) -> None:
    if self.mup_base < 0:
      raise UserError(
        f"model.mup_base={self.mup_base} must be the proxy's d_model, or 0 for"
        " no muP"
      )
    if not self.mup_grows:
      raise UserError(
        f"model.mup_base={self.mup_base} must know how the heads follow"
        " d_model: set model.mup_grows to n_heads (head_dim is the proxy's) or"
        " to head_dim (n_heads is)"
      )
    if self.embed_rank:
      raise UserError(
        f"model.embed_rank={self.embed_rank}: muP has no rule for factorized"
        " embeddings; set it to 0, or model.mup_base"
      )
    if self.n_ahead:
      raise UserError(
        f"model.n_ahead={self.n_ahead}: muP has no rule for the modules of"
        " multi-token prediction; set it to 0, or model.mup_base"
      )
    from .mixers import MIXERS
    from .mup import base_config

    for word in self.mixers:
      if not MIXERS[word].mup:
        raise UserError(
          f"model.mup_base={self.mup_base}: muP has no rule that is known to"
          f" hold for model.mixer={word!r}; set it to 0, or choose attention"
        )
    try:
      base_config(self)
    except UserError as error:
      raise UserError(
        f"at the width model.mup_base={self.mup_base}: {error}"
      ) from None

  def _one_of(self, key: str, words: tuple[str, ...]) -> None:
    if getattr(self, key) not in words:
      raise UserError(
        f"model.{key}={getattr(self, key)!r} is not one of"
        f" {', '.join(words)}{nearest(getattr(self, key), words)}"
      )

  def options(self, entry: str, default: Any = None) -> Any:
    """The chosen entry's `Options`.

    Args:
      default: where it is not chosen under this name, as a plugin's subclass.
    """
    return self.opts.get(entry, default) if default else self.opts[entry]

  @property
  def layers(self) -> tuple[Layer, ...]:
    """All kinds of layers that it has."""
    words = (*self.first, *self.pattern)
    return tuple(dict.fromkeys(Layer.of(word, self.ffn) for word in words))

  @property
  def mixers(self) -> tuple[str, ...]:
    """The entries of MIXERS that it has."""
    return tuple(dict.fromkeys(layer.mixer for layer in self.layers))

  @property
  def ffns(self) -> tuple[str, ...]:
    """The entries of FFNS that it has."""
    return tuple(dict.fromkeys(layer.ffn for layer in self.layers))

  @property
  def groups(self) -> tuple[tuple[str, tuple[Layer, ...], int], ...]:
    """(name, layers, repeats): the first, the pattern tiled, then its rest."""
    whole, rest = divmod(self.n_layers - len(self.first), len(self.pattern))
    groups = (
      ("first", self.first, min(1, len(self.first))),
      ("groups", self.pattern, whole),
      ("tail", self.pattern[:rest], min(1, rest)),
    )
    return tuple(
      (name, tuple(Layer.of(word, self.ffn) for word in words), repeats)
      for name, words, repeats in groups
      if repeats
    )

  def first_of(self, mixer: str) -> int:
    """The depth of the first layer that has this mixer."""
    return min(
      self.depths(name, i)[0]
      for name, layers, _ in self.groups
      for i, layer in enumerate(layers)
      if layer.mixer == mixer
    )

  def depths(self, group: str, place: int = 0) -> range:
    """Of the layers at a place of a group's tile, from 0 at the first layer."""
    first = 0
    for name, layers, repeats in self.groups:
      n = len(layers) * repeats
      if name == group:
        return range(first + place, first + n, len(layers))
      first += n
    raise KeyError(group)
