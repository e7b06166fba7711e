"""Multi-token prediction (Gloeckle et al. 2024, arXiv:2404.19737).

With the modules of DeepSeek-AI 2024, arXiv:2412.19437, section 2.2, which keep
the order of prediction: `models/ahead.py`.
"""

import dataclasses

from jaxtyping import Array

from ...errors import UserError
from ...models.ahead import has_later, later
from ...models.context import Context
from ...models.param import Params
from . import Apply, Batch, Loss, ObjectiveConfig
from .next_token import NextToken


@dataclasses.dataclass(frozen=True)
class Options:
  weight: float = 0.3  # of the mean loss of the modules

  def __post_init__(self):
    if self.weight < 0:
      raise UserError(f"weight={self.weight} must not be negative")


class MultiToken(NextToken):
  """Next-token loss + weight / n * the losses of n modules further on.

  A module's loss is over the targets of the same document that it has; all are
  divided by the tokens of the next-token loss (equations 24 and 25). In
  evaluation it is the next-token loss alone.
  """

  predicts_ahead = True

  def __init__(self, config: ObjectiveConfig, options: Options):
    self.config, self.options = config, options

  def __call__(
    self, apply: Apply, params: Params, batch: Batch, key: Array | None
  ) -> Loss:
    if key is None:
      return super().__call__(apply, params, batch, key)
    outputs = []

    def ahead(*args, **kwargs):
      outputs.append(apply(*args, ahead=True, **kwargs))
      return outputs[0]

    loss = super().__call__(ahead, params, batch, key)
    (output,) = outputs
    ctx = Context(batch["positions"], batch["segment_ids"])
    metrics, total = dict(loss.metrics), loss.sum
    for i, hidden_BTD in enumerate(output.ahead):
      k = i + 1
      weights_BT = later(batch["weights"], k) * has_later(ctx, k)
      further, sums = dataclasses.replace(
        output, hidden_BTD=hidden_BTD
      ).cross_entropy(
        later(batch["targets"], k),
        weights_BT,
        z_loss=self.config.z_loss,
        label_smoothing=self.config.label_smoothing,
      )
      total += self.options.weight / len(output.ahead) * further
      metrics[f"cross_entropy_{k + 1}"] = sums.cross_entropy
    return loss._replace(sum=total, metrics=metrics)
