"""Residual blocks, and the layer group that `nn.scan` repeats over depth."""

from typing import Any

import flax.linen as nn
import jax
from jaxtyping import Array, Float, Int

from ..parallel.rules import constrain
from .config import NORMED_AFTER, Layer, ModelConfig
from .context import Context, dropout, stochastic_depth
from .ffn import FFNS
from .mixers import MIXERS, State
from .norms import NORMS
from .penalty import COLLECTIONS as OF_THE_LOSS
from .watch import watch

# Those of `watch.py` among them.
COLLECTIONS = (
  *("params", "adapt", "intermediates", "activations", "state"),
  *OF_THE_LOSS,
)

_policies = jax.checkpoint_policies

# What the backward pass keeps of a block instead of computing it again.
REMAT: dict[str, Any] = {
  "none": None,  # everything is kept
  # The cheap rest is computed again: less memory, and less of its traffic.
  "dots": _policies.save_from_both_policies(
    _policies.dots_saveable,
    _policies.save_only_these_names("attention", "grouped_matmul"),
  ),
  "no_batch_dots": _policies.dots_with_no_batch_dims_saveable,
  "full": _policies.nothing_saveable,
}


class Block(nn.Module):
  """One mixer and one ffn on the residual stream.

  `residual` is where the norms stand: "pre" x + f(norm(x)) (Xiong et al.
  2020, arXiv:2002.04745); "post" norm(x + f(x)) (Vaswani et al. 2017);
  "after" x + norm(f(x)) (Liu et al. 2022, arXiv:2111.09883; OLMo 2's);
  "sandwich" x + norm(f(norm(x))) (Ding et al. 2021, arXiv:2105.13290);
  "parallel" x + mixer(norm(x)) + ffn(norm(x)) (Wang and Komatsuzaki 2021);
  "parallel_norms" the same with a norm for each, as GPT-NeoX has (Black et al.
  2022, arXiv:2204.06745);
  "deep_norm" norm((2L)^(1/4) x + f(x)), with smaller initial weights (Wang et
  al. 2022, arXiv:2203.00555).
  """

  config: ModelConfig
  layer: Layer

  @nn.compact
  def __call__(
    self, x_BTD: Float[Array, "B T D"], ctx: Context, state: State | None
  ) -> tuple[Float[Array, "B T D"], State | None]:
    c = self.config
    mixer = MIXERS[self.layer.mixer](c, name="mixer")
    ffn = FFNS[self.layer.ffn](c, name="ffn")

    def norm(name, x):
      return NORMS[c.norm](c, name=name)(x)

    def branch(name, x):
      """What a sublayer adds to the residual stream."""
      watch(self, f"{name}_out", x, ctx)
      site = {"mixer": 1, "ffn": 2}[name]
      x = dropout(x, c.dropout, ctx, site)
      # Other sites than dropout's, which are below 4.
      return stochastic_depth(x, c.stochastic_depth, c.n_layers, ctx, site + 4)

    if c.residual in ("parallel", "parallel_norms"):
      if c.residual == "parallel":
        to_mixer_BTD = to_ffn_BTD = norm("norm", x_BTD)
      else:
        to_mixer_BTD = norm("mixer_norm", x_BTD)
        to_ffn_BTD = norm("ffn_norm", x_BTD)
      y_BTD, state = mixer(to_mixer_BTD, ctx, state)
      x_BTD = x_BTD + branch("mixer", y_BTD)
      x_BTD = x_BTD + branch("ffn", ffn(to_ffn_BTD, ctx))
    elif c.residual in NORMED_AFTER:
      alpha = (2 * c.n_layers) ** 0.25 if c.residual == "deep_norm" else 1.0
      y_BTD, state = mixer(x_BTD, ctx, state)
      x_BTD = norm("mixer_norm", alpha * x_BTD + branch("mixer", y_BTD))
      x_BTD = norm("ffn_norm", alpha * x_BTD + branch("ffn", ffn(x_BTD, ctx)))
    elif c.residual == "after":
      y_BTD, state = mixer(x_BTD, ctx, state)
      x_BTD = x_BTD + branch("mixer", norm("mixer_norm", y_BTD))
      x_BTD = x_BTD + branch("ffn", norm("ffn_norm", ffn(x_BTD, ctx)))
    else:
      y_BTD, state = mixer(norm("mixer_norm", x_BTD), ctx, state)
      if c.residual == "sandwich":
        y_BTD = norm("mixer_out_norm", y_BTD)
      x_BTD = x_BTD + branch("mixer", y_BTD)
      y_BTD = ffn(norm("ffn_norm", x_BTD), ctx)
      if c.residual == "sandwich":
        y_BTD = norm("ffn_out_norm", y_BTD)
      x_BTD = x_BTD + branch("ffn", y_BTD)
    watch(self, "stream", x_BTD, ctx)
    return constrain(x_BTD, "batch", "seq", "embed"), state


class LayerGroup(nn.Module):
  """The blocks of one tile of the pattern; the body of the loop over depth."""

  config: ModelConfig
  layers: tuple[Layer, ...]

  @nn.compact
  def __call__(
    self,
    x_BTD: Float[Array, "B T D"],
    ctx: Context,
    first_layer: Int[Array, ""],
    states: tuple[State | None, ...],
  ) -> tuple[Float[Array, "B T D"], tuple[State | None, ...]]:
    block = Block
    if self.config.remat != "none":
      # The loop already keeps XLA from merging the recomputation.
      policy = REMAT[self.config.remat]
      block = nn.remat(Block, prevent_cse=False, policy=policy)
    new_states = []
    for i, (layer, state) in enumerate(zip(self.layers, states, strict=True)):
      here = ctx.at_layer(first_layer + i)
      x_BTD, state = block(self.config, layer, name=str(i))(x_BTD, here, state)
      new_states.append(state)
    return x_BTD, tuple(new_states)


def stack(config: ModelConfig, repeats: int):
  """`repeats` layer groups as one scan: compile time is that of one group."""
  # Any: Flax takes one for each argument, but its type says int.
  axes: Any = (nn.broadcast, 0, 0)
  return nn.scan(
    LayerGroup,
    # Collections that later work needs: an undeclared one raises under scan.
    variable_axes=dict.fromkeys(COLLECTIONS, 0),
    split_rngs={"params": True},
    in_axes=axes,
    out_axes=0,
    length=repeats,
    unroll=min(config.scan_unroll, repeats),
    metadata_params={nn.PARTITION_NAME: "layers"},
  )
