"""Decoder language model (Radford et al. 2019); the pieces are config words.

    params = init(config, jax.random.key(0))
    output = apply(config, params, tokens)
    output.logits()

embed -> groups of blocks under one loop -> norm -> output matrix.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt32

from ..errors import UserError
from ..kernels.cross_entropy import Sums
from ..kernels.dispatch import dispatch
from ..parallel.rules import constrain, shards
from . import penalty
from .ahead import Ahead, later
from .block import stack
from .config import NORMED_AFTER, ModelConfig
from .context import Context, DropoutKey, dropout
from .gumbel import gumbel_argmax
from .linear import Projection
from .mixers import MIXERS
from .mup import base_config, parametrize, readout_scale
from .norms import NORMS
from .once import Once, Tied
from .param import Params, declare, init_params, normal, specs, zeros
from .positions import POSITIONS
from .state import check_state
from .watch import COLLECTION, KEPT

# Logits that one device holds at a time in a loss. A CPU is a third faster
# where they stay in its cache (8 MiB); an accelerator wants large matmuls.
LOGITS_PER_CHUNK = {"cpu": 2**21, "*": 2**26}


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=(
    "hidden_BTD",
    "unembed_VD",
    "state",
    "penalty_B",
    "measures",
    "ahead",
    "bias_V",
  ),
  meta_fields=("config",),
)
@dataclasses.dataclass(frozen=True)
class Output:
  """What a model returns: logits are left to the one who needs them.

  Attributes:
    hidden_BTD: after the last norm, and muP's scale of what is read out.
    unembed_VD: the output matrix.
    state: the decode state after these tokens, where one was given.
    config: of the model that made it.
    penalty_B: what layers add to each example's loss, per token of it; None:
      nothing.
    measures: what they count, as means over each example, [L, B, ...].
    ahead: hidden states of the modules of `ahead.py`, where they were asked
      for.
    bias_V: of the logits; None: none.
  """

  hidden_BTD: Float[Array, "B T D"]
  unembed_VD: Float[Array, "V D"]
  state: Any
  config: ModelConfig
  penalty_B: Float[Array, " B"] | None = None
  measures: dict[str, Float[Array, "L B ..."]] = dataclasses.field(
    default_factory=dict
  )
  ahead: tuple[Float[Array, "B T D"], ...] = ()
  bias_V: Float[Array, " V"] | None = None

  def _factors(self) -> tuple[Float[Array, "B T D"], Float[Array, "V D"]]:
    """What the logits are the product of: a bias is one dimension more."""
    if self.bias_V is None:
      return self.hidden_BTD, self.unembed_VD
    one_BT1 = jnp.ones_like(self.hidden_BTD[..., :1])
    return (
      jnp.concatenate([self.hidden_BTD, one_BT1], axis=-1),
      jnp.concatenate([self.unembed_VD, self.bias_V[:, None]], axis=-1),
    )

  def logits(self) -> Float[Array, "B T V"]:
    """The logits, in fp32. A loss uses `kernels/cross_entropy` instead."""
    hidden_BTD, unembed_VD = self._factors()
    logits_BTV = jnp.einsum(
      "BTD,VD->BTV",
      hidden_BTD,
      unembed_VD.astype(hidden_BTD.dtype),
      preferred_element_type=jnp.float32,
    )
    if cap := self.config.logits_soft_cap:
      logits_BTV = cap * jnp.tanh(logits_BTV / cap)
    return logits_BTV

  def _chunk(self) -> int:
    """Positions whose logits are made at a time."""
    rows = max(1, self.hidden_BTD.shape[0] // shards("batch"))
    budget = LOGITS_PER_CHUNK.get(jax.default_backend(), LOGITS_PER_CHUNK["*"])
    return max(1, budget // (rows * self.config.vocab_size))

  def draw_targets(
    self, seed: UInt32[Array, ""], example_ids_B: Int[Array, " B"]
  ) -> Int[Array, "B T"]:
    """A token from each position's distribution, without all logits."""
    return gumbel_argmax(
      *self._factors(),
      seed,
      example_ids_B,
      soft_cap=self.config.logits_soft_cap,
      chunk=self._chunk(),
    )

  def cross_entropy(
    self,
    targets_BT: Int[Array, "B T"],
    weights_BT: Float[Array, "B T"],
    *,
    z_loss: float = 0.0,
    label_smoothing: float = 0.0,
  ) -> tuple[Float[Array, ""], Sums]:
    """Weighted sum of the loss in nats, without ever holding all logits."""
    op = dispatch("cross_entropy", self.config.implementation)
    return op(
      *self._factors(),
      targets_BT,
      weights_BT,
      z_loss=z_loss,
      label_smoothing=label_smoothing,
      soft_cap=self.config.logits_soft_cap,
      chunk=self._chunk(),
    )


class Decoder(nn.Module):
  """A causal language model."""

  config: ModelConfig

  @nn.compact
  def __call__(
    self,
    tokens_BT: Int[Array, "B T"],
    positions_BT: Int[Array, "B T"] | None = None,
    segment_ids_BT: Int[Array, "B T"] | None = None,
    state: dict[str, tuple[Any, ...]] | None = None,
    dropout_key: DropoutKey | None = None,
    ahead: bool = False,
  ) -> Output:
    """Runs a chunk of tokens.

    Args:
      positions_BT: position within the document; None: from 0 on.
      segment_ids_BT: document within the row, 0 padding; None: one document.
      state: of `models.state`; then positions must be given.
      dropout_key: None: no dropout.
      ahead: also run the modules that predict tokens further on.
    """
    c = self.config
    assert c.vocab_size, "the vocabulary's size comes with the tokenizer"
    if state:
      check_state(c, state, tokens_BT.shape[0])
    if positions_BT is None:
      assert state is None, "positions must be given with a state"
      positions_BT = jnp.broadcast_to(
        jnp.arange(tokens_BT.shape[1]), tokens_BT.shape
      )
    ctx = Context(
      positions_BT, segment_ids_BT, dropout=dropout_key, tokens_BT=tokens_BT
    )
    # Of the size that a mixer's output has at first: a smaller one is lost in
    # the residual stream, and with it which token stands there.
    D, E = c.d_model, c.embed_rank or c.d_model
    init = normal(c.init_scale / D**0.5)
    axes = ("vocab", "latent" if c.embed_rank else "embed")
    table_VD = declare(
      self,
      "embedding",
      init,
      (c.vocab_size, E),
      axes,
      c.param_dtype,
      ("in", "out"),
    )
    # Looked up, then cast: the gradient of a lookup adds up every use of a
    # token, and in bf16 a frequent one stops growing.
    x_BTD = table_VD[tokens_BT].astype(c.compute_dtype)
    up = None
    if c.embed_rank:
      into = (c, "BTE,ED->BTD", (E, D), ("latent", "embed"))
      up = Projection(*into, bias=False, name="embed_up")
      x_BTD = up(x_BTD)
    if c.embed_scale != 1:
      x_BTD *= c.embed_scale
    embedded_BTD = x_BTD
    x_BTD = POSITIONS[c.position](c, name="position").embed(x_BTD, positions_BT)
    if c.embed_norm:
      x_BTD = NORMS[c.norm](c, name="embed_norm")(x_BTD)
    ctx = ctx.sharing(Once(c, c.mixers, name="positions")())
    x_BTD = constrain(x_BTD, "batch", "seq", "embed")
    x_BTD = dropout(x_BTD, c.dropout, ctx, site=0)
    tied = Tied(c, c.mixers, name="tied")(x_BTD, ctx)
    ctx = dataclasses.replace(ctx, tied=tied)
    if any(MIXERS[mixer].of_embedding for mixer in c.mixers):
      ctx = dataclasses.replace(ctx, embedded_BTD=x_BTD)
    values: dict[str, Array] = {}
    for mixer in c.mixers:
      if (passed := MIXERS[mixer].passed(c)) is not None:
        values[mixer] = jnp.zeros((*tokens_BT.shape, *passed), x_BTD.dtype)
    of_source = any(MIXERS[mixer].of_source for mixer in c.mixers)
    new_state = {}
    for name, layers, repeats in c.groups:
      if name != "first" and of_source and ctx.source_BTD is None:
        ctx = dataclasses.replace(ctx, source_BTD=x_BTD)
      group = stack(c, repeats)(c, layers, name=name)
      first_layers = jnp.array(c.depths(name))
      states = state[name] if state else (None,) * len(layers)
      (x_BTD, values), new_state[name] = group(
        (x_BTD, values), ctx, first_layers, states
      )
    # Parameters are there from the start, asked for or not.
    n_ahead = c.n_ahead if ahead or self.is_initializing() else 0
    stream_BTD, seen_BTDs = x_BTD, []
    ctx = dataclasses.replace(ctx, first_values=values)
    for k in range(n_ahead):
      module = Ahead(c, k, name=f"ahead_{k}")
      next_BTD = later(embedded_BTD, k + 1)
      stream_BTD, seen_BTD = module(stream_BTD, next_BTD, ctx)
      seen_BTDs.append(seen_BTD)
    if c.residual not in NORMED_AFTER:
      x_BTD = NORMS[c.norm](c, name="final_norm")(x_BTD)
    if (scale := readout_scale(c)) != 1:
      x_BTD *= scale
    unembed_VD = table_VD
    if not c.tie_embeddings:
      unembed_VD = declare(
        self,
        "unembedding",
        init,
        (c.vocab_size, E),
        axes,
        c.param_dtype,
        ("out", "in"),
      )
    read_BTDs = [x_BTD, *seen_BTDs]
    # Logits of the product of table and matrix, by way of the smaller side.
    if up is not None and c.tie_embeddings and c.tie_embed_maps:
      read_BTDs = [up(x_BTD, "BTD,ED->BTE") for x_BTD in read_BTDs]
    elif up is not None:
      back = (c, "BTD,DE->BTE", (D, E), ("embed", "latent"))
      down = Projection(*back, bias=False, name="embed_down")
      read_BTDs = [down(x_BTD) for x_BTD in read_BTDs]
    bias_V = None
    if c.output_bias:
      bias_V = declare(
        self, "output_bias", zeros, (c.vocab_size,), ("vocab",), c.param_dtype
      )
    new_state = new_state if state else None
    x_BTD, *seen_BTDs = read_BTDs
    ahead_BTDs = tuple(seen_BTDs)
    return Output(
      x_BTD, unembed_VD, new_state, c, ahead=ahead_BTDs, bias_V=bias_V
    )


def param_specs(config: ModelConfig) -> dict[str, Any]:
  """Nested dict of `ParamSpec`: shape, logical axes and initialiser."""
  found = specs(Decoder(config), jnp.zeros((1, 1), jnp.int32))
  if not config.mup_base:
    return found
  try:
    base = param_specs(base_config(config))
  except UserError as error:
    raise UserError(
      f"at the width model.mup_base={config.mup_base}: {error}"
    ) from None
  return parametrize(found, base)


# Parameters of the first things that a token meets.
_BEFORE_LAYERS = (
  *("embedding", "embed_up", "embed_norm"),
  *("position", "positions", "tied"),
)


def depths(specs: Mapping[str, Any]) -> dict[str, Any]:
  """How deep each parameter of a model stands, from its specs.

  0 before the layers; 1 to L in them, an array where they are stacked; L for
  what comes after the last one.
  """
  depth, found = 0, {}
  for name in ("first", "groups", "tail"):
    if name in specs:
      group = specs[name]
      repeats = jax.tree.leaves(group)[0].shape[0]
      tiles = depth + 1 + len(group) * np.arange(repeats)
      found[name] = {
        i: jax.tree.map(lambda _, layers=tiles + int(i): layers, block)
        for i, block in group.items()
      }
      depth += len(group) * repeats
  for name in specs.keys() - found.keys():
    here = 0 if name in _BEFORE_LAYERS else depth
    found[name] = jax.tree.map(lambda _, here=here: here, specs[name])
  return found


def init(config: ModelConfig, key: Array, shardings: Any = None) -> Params:
  """Draws the parameters, the same bits on any mesh."""
  return init_params(param_specs(config), key, shardings)


def watched(
  config: ModelConfig, params: Params, *args, **kwargs
) -> tuple[Output, dict[str, Any]]:
  """As `apply`, and the statistics of `watch.py`, stacked as parameters are."""
  output, seen = _run(config, params, (COLLECTION,), *args, **kwargs)
  return output, dict(seen[COLLECTION])


def activations(
  config: ModelConfig, params: Params, *args, **kwargs
) -> tuple[Output, dict[str, Any]]:
  """As `apply`, and the arrays that `watch.py` keeps, stacked likewise."""
  output, seen = _run(config, params, (KEPT,), *args, **kwargs)
  return output, dict(seen[KEPT])


def apply(config: ModelConfig, params: Params, *args, **kwargs) -> Output:
  """`Decoder(config)` on `params`; its arguments are those of the module."""
  return _run(config, params, (), *args, **kwargs)[0]


def _run(config, params, collections, *args, **kwargs) -> tuple[Output, Any]:
  run = functools.partial(
    Decoder(config).apply, mutable=[*collections, *penalty.COLLECTIONS]
  )
  output, seen = run({"params": params}, *args, **kwargs)
  assert isinstance(output, Output)
  output = dataclasses.replace(
    output,
    penalty_B=penalty.total(seen),
    measures=penalty.by_layer(config, seen),
  )
  return output, seen
