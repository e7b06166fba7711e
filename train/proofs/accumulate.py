"""Proof: accumulation over microbatches equals one big batch."""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from ...data.pipeline import train_batches
from ...data.prepare import prepare
from ...models import lm
from ...models.param import path_of
from ..config import Config
from ..setup import first_loss_scale, fit_vocab
from ..step import BATCH, loss_and_grads, make_objective
from . import Check

# Relative to a leaf's largest entry. The sums of a gradient over tokens are
# taken in another order: about sqrt(tokens) roundings of the compute dtype.
TOLERANCE = {"float32": 2e-5, "bfloat16": 6e-2, "float16": 8e-3}
# Each microbatch has scales of its own, so that the same number is rounded
# elsewhere in each: by 6e-2 (E4M3) and 0.12 (E5M2), in several products.
TOLERANCE |= {"fp8": 0.4}


def uneven(batch: dict, seed: int) -> dict:
  """The batch with a random number of targets kept in each row."""
  weights = np.array(batch["weights"])
  rng = np.random.default_rng(seed)
  for row in weights:
    row[rng.integers(1, len(row) + 1) :] = 0
  return batch | {"weights": weights}


def prove(config: Config) -> Iterator[Check]:
  """Compares the gradient for every divisor of the batch as microbatches."""
  prepared = prepare(config.data)
  config = fit_vocab(config, prepared.tokenizer.vocab_size)
  batch = next(train_batches(prepared, config.data))
  batch = uneven({k: batch[k] for k in BATCH}, config.seed)
  batch = jax.tree.map(jnp.asarray, batch)
  params = lm.init(config.model, jax.random.key(config.seed))
  key = jax.random.key(config.seed + 1)
  scale = jax.tree.map(jnp.asarray, first_loss_scale(config)).get("scale")
  objective = make_objective(config)
  apply = functools.partial(lm.apply, config.model)

  @functools.partial(jax.jit, static_argnums=2)
  def run(params, batch, accum_steps):
    return loss_and_grads(
      objective, apply, params, batch, key, accum_steps, loss_scale=scale
    )

  loss, whole = run(params, batch, 1)
  counts = batch["weights"].sum(1)
  yield Check(
    "rows have unequal token counts",
    len(set(counts.tolist())) > 1 or len(counts) == 1,
    f"{int(counts.min())} to {int(counts.max())} tokens",
  )
  words = config.model.matmul, config.model.compute_dtype
  tolerance = next(TOLERANCE[word] for word in words if word in TOLERANCE)
  size = config.data.batch_size
  for n in (n for n in range(2, size + 1) if size % n == 0):
    other, grads = run(params, batch, n)
    worst, where = 0.0, ""
    for (path, a), b in zip(
      jax.tree_util.tree_flatten_with_path(whole)[0],
      jax.tree.leaves(grads),
      strict=True,
    ):
      a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
      error = np.abs(a - b).max() / max(np.abs(a).max(), 1e-30)
      if error >= worst:
        worst, where = error, path_of(path)
    yield Check(
      f"gradient of {n} microbatches = that of one batch",
      bool(worst <= tolerance),
      f"largest relative difference {worst:.1e} ({where}), allowed"
      f" {tolerance:.0e}",
    )
    mean = [float(x.sum / x.weight) for x in (loss, other)]
    yield Check(
      f"loss of {n} microbatches = that of one batch",
      bool(abs(mean[0] - mean[1]) <= tolerance * abs(mean[0])),
      f"{mean[1]:.7f} and {mean[0]:.7f}",
    )
