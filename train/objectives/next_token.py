"""Next-token prediction (Radford et al. 2018).

The z-loss is that of Chowdhery et al. 2022, arXiv:2204.02311, section 5.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ...models.context import DropoutKey
from ...models.param import Params
from ...registry import NoOptions
from . import Apply, Batch, Loss, ObjectiveConfig, of_layers


class NextToken:
  """Weighted cross-entropy of `targets`, plus z_loss * log(Z)^2, in nats."""

  def __init__(self, config: ObjectiveConfig, options: NoOptions):
    del options
    self.config = config

  def __call__(
    self, apply: Apply, params: Params, batch: Batch, key: Array | None
  ) -> Loss:
    dropout_key = None
    if key is not None:
      seed = jax.random.bits(key, (), jnp.uint32)
      dropout_key = DropoutKey(seed, batch["example_ids"])
    output = apply(
      params,
      batch["tokens"],
      batch["positions"],
      batch["segment_ids"],
      dropout_key=dropout_key,
    )
    loss, sums = output.cross_entropy(
      batch["targets"],
      batch["weights"],
      z_loss=self.config.z_loss,
      label_smoothing=self.config.label_smoothing,
    )
    metrics = {"cross_entropy": sums.cross_entropy, "accuracy": sums.correct}
    if self.config.z_loss:
      metrics["z"] = sums.z
    if key is not None:
      penalty, measures = of_layers(output, batch["weights"])
      loss, metrics = loss + penalty, metrics | measures
    return Loss(loss, batch["weights"].sum(), metrics)

  def drawn(
    self, apply: Apply, params: Params, batch: Batch, key: Array
  ) -> Loss:
    """Cross-entropy of tokens drawn from the model's own distribution."""
    output = apply(
      params, batch["tokens"], batch["positions"], batch["segment_ids"]
    )
    seed = jax.random.bits(key, (), jnp.uint32)
    targets = output.draw_targets(seed, batch["example_ids"])
    loss, _ = output.cross_entropy(targets, batch["weights"])
    return Loss(loss, batch["weights"].sum(), {})
