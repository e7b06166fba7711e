"""Parameters, FLOPs and bytes of a config, from its own traced program.

Nothing here knows a technique: FLOPs are those of every matmul in the traced
program, activations what its backward pass keeps (`counting.py`).
"""

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..errors import UserError
from ..models import lm
from ..models.block import REMAT
from ..models.state import state_bytes
from .config import Config
from .counting import count_flops, flops_by_path, nbytes, saved_bytes
from .objectives import Batch, Loss
from .setup import Setup, provisional_setup
from .step import make_objective


@dataclasses.dataclass(frozen=True)
class Accounts:
  """Sizes of one experiment.

  Attributes:
    params: numbers in all parameters.
    embedding_params: those of the embedding and output tables.
    param_bytes, opt_bytes: of parameters and of optimizer state.
    forward_flops, train_flops: per token of a row of `seq_len`; training is
      three times forward, recomputation not counted.
    executed_flops: per token, what the update really runs, but that tiles of
      attention which a mask skips are counted.
    activation_bytes: kept for the backward pass of one microbatch.
    decode_state_bytes: for one sequence of `max_len` tokens; None where the
      model can't decode.
    decode_bytes_per_token: by which each further token of a context makes it
      grow; 0 where the state has reached its full size.
  """

  params: int
  embedding_params: int
  param_bytes: int
  opt_bytes: int
  forward_flops: float
  train_flops: float
  executed_flops: float
  activation_bytes: int
  decode_state_bytes: int | None
  decode_bytes_per_token: float | None

  @property
  def memory_bytes(self) -> int:
    """Parameters, gradients in fp32, optimizer state and activations.

    Of one run, and roughly: a compiler keeps some things more, some less.
    """
    kept = self.param_bytes + self.opt_bytes + self.activation_bytes
    return kept + 4 * self.params


def memory_bytes(setup: Setup) -> int:
  """`Accounts.memory_bytes` alone, which needs no FLOPs."""
  abstract = setup.abstract()
  kept = _tree_bytes(abstract.params) + _tree_bytes(abstract.opt_state)
  return kept + activation_bytes(setup) + 4 * count_params(setup)


def memory_of(config: Config, seeds: int = 1) -> int:
  """Rough bytes that `seeds` runs of the config take in one program.

  Reads no data: where the tokenizer is not trained yet, its size is taken from
  the config.
  """
  return seeds * memory_bytes(provisional_setup(config))


def _tree_bytes(tree: Any) -> int:
  return sum(nbytes(a) for a in jax.tree.leaves(tree))


def abstract_batch(rows: int, seq_len: int) -> Batch:
  """Shapes of a batch."""
  ints = jax.ShapeDtypeStruct((rows, seq_len), jnp.int32)
  return {
    "tokens": ints,
    "targets": ints,
    "segment_ids": ints,
    "positions": ints,
    "weights": jax.ShapeDtypeStruct((rows, seq_len), jnp.float32),
    "example_ids": jax.ShapeDtypeStruct((rows,), jnp.int32),
  }


def accounts(setup: Setup) -> Accounts:
  """Counts, without making an array."""
  config = setup.config
  abstract = setup.abstract()
  params = abstract.params
  run_grad = jax.grad(_loss(config), has_aux=True)
  executed = jax.make_jaxpr(run_grad)(params, *_microbatch(config)).jaxpr
  sizes = {
    name: math.prod(leaf.shape)
    for name, leaf in params.items()
    if hasattr(leaf, "shape")
  }
  decode, per_token = decode_bytes(config)
  once = forward_flops(setup)
  return Accounts(
    params=count_params(setup),
    embedding_params=sum(sizes.values()),
    param_bytes=_tree_bytes(params),
    opt_bytes=_tree_bytes(abstract.opt_state),
    forward_flops=once,
    train_flops=3 * once,
    executed_flops=count_flops(executed) / _microbatch_tokens(config),
    activation_bytes=activation_bytes(setup),
    decode_state_bytes=decode,
    decode_bytes_per_token=per_token,
  )


def activation_bytes(setup: Setup) -> int:
  """Kept for the backward pass of one microbatch."""
  batch, _ = _microbatch(setup.config)
  given, loss = (batch_zeros(batch), jax.random.key(0)), _loss(setup.config)
  return saved_bytes(lambda p: loss(p, *given)[0], setup.abstract().params)


def activations_by_remat(setup: Setup) -> dict[str, int]:
  """`activation_bytes` under each policy of `model.remat`."""

  def under(remat: str) -> Setup:
    model = dataclasses.replace(setup.config.model, remat=remat)
    config = dataclasses.replace(setup.config, model=model)
    return dataclasses.replace(setup, config=config)

  return {remat: activation_bytes(under(remat)) for remat in REMAT}


def decode_bytes(config: Config) -> tuple[int, float] | tuple[None, None]:
  """Of the state at `max_len` tokens, and of each further token; or None."""
  n = config.model.max_len
  try:
    now, twice = (state_bytes(config.model, 1, m) for m in (n, 2 * n))
  except UserError:
    return None, None
  return now, (twice - now) / n


def count_params(setup: Setup) -> int:
  """Numbers in all parameters."""
  return sum(spec.size for spec in jax.tree.leaves(setup.specs))


def forward_flops(setup: Setup) -> float:
  """Per token of a row: what the algorithms need.

  Causal attention counts as whole, as it is usual; a window, or a mask, as the
  keys that a query may see; an expert as the tokens that it gets, or has room
  for. What is executed may be less, or be computed twice.
  """
  return _needed_by_path(setup).total() / _microbatch_tokens(setup.config)


@dataclasses.dataclass(frozen=True)
class Flops:
  """Per token of a row."""

  forward: float
  backward: float


# The first word that is among a matmul's scopes says which part it is of; one
# outside the decoder is the output matrix's, in the loss.
PARTS = {
  "flash_attention": "attention",
  "mixer": "mixer",
  "ffn": "ffn",
  "embed_up": "head",
  "embed_down": "head",
  "Decoder": "other",
  "": "head",
}


def flops_by_part(setup: Setup) -> dict[str, Flops]:
  """`forward_flops`, and its gradient without any recomputation, by part.

  "attention" is what is between queries, keys and values, "mixer" the rest of
  a mixer: its projections; "head" the output matrix, and what factorizes it.
  """
  tokens = _microbatch_tokens(setup.config)
  forward = _by_part(_needed_by_path(setup))
  both = _by_part(_needed_by_path(setup, jax.value_and_grad))
  return {
    part: Flops(forward[part] / tokens, (both[part] - forward[part]) / tokens)
    for part in dict.fromkeys(PARTS.values())
  }


def _by_part(found: Counter[str]) -> Counter[str]:
  parts = Counter()
  for path, n in found.items():
    # "transpose(jvp(Decoder))/groups/0/mixer/mixer.project/q"
    words = {"", *re.split(r"[/()]", path)}
    parts[next(PARTS[word] for word in PARTS if word in words)] += n
  return parts


def _needed_by_path(setup: Setup, transform: Any = None) -> Counter[str]:
  """FLOPs of a microbatch's loss, or of a transform of it, in references."""
  config = setup.config
  loss = _loss(config, implementation="reference", remat="none")
  run = transform(loss, has_aux=True) if transform else loss
  given = setup.abstract().params, *_microbatch(config)
  return flops_by_path(jax.make_jaxpr(run)(*given).jaxpr)


def _loss(config: Config, **changes: str) -> Callable[..., tuple[Array, Loss]]:
  """(params, batch, key) -> what an update differentiates, and all of it.

  Args:
    changes: of keys of the model.
  """
  model = dataclasses.replace(config.model, **changes)
  objective = make_objective(config)

  def apply(params, *args, **kwargs):
    # What layers count is only logged.
    output = lm.apply(model, params, *args, **kwargs)
    return dataclasses.replace(output, measures={})

  def forward(params, batch, key):
    loss = objective(apply, params, batch, key)
    return loss.sum, loss

  return forward


def _microbatch(config: Config) -> tuple[Batch, Any]:
  """Shapes of a microbatch, and of its key."""
  rows = config.data.batch_size // config.opt.accum_steps
  key = jax.eval_shape(lambda: jax.random.key(0))
  return abstract_batch(rows, config.data.seq_len), key


def _microbatch_tokens(config: Config) -> int:
  return _microbatch(config)[0]["tokens"].size


def batch_zeros(batch: Batch) -> Batch:
  return jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), batch)
