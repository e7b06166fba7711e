"""Residual blocks, and the layer group that `nn.scan` repeats over depth."""

import dataclasses
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
from .shift import token_before
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
  ) -> tuple[Float[Array, "B T D"], State | None, dict[str, Array]]:
    """The stream after it, its state, and what its mixer passes on."""
    c, layer, kept, passed = self.config, self.layer, {}, {}
    mixer = MIXERS[layer.mixer](c, name="mixer")
    ffn = FFNS[layer.ffn](c, name="ffn")
    before = state or {}

    def mix(x_BTD):
      y_BTD, kept["mixer"], *more = mixer(x_BTD, ctx, before.get("mixer"))
      if more:
        (passed[layer.mixer],) = more
      return y_BTD

    def feed(x_BTD):
      if not ffn.of_previous:
        return ffn(x_BTD, ctx)
      shifted = token_before(x_BTD, ctx, c, before.get("ffn"))
      previous_BTD, kept["ffn"] = shifted
      return ffn(x_BTD, dataclasses.replace(ctx, previous_BTD=previous_BTD))

    def norm(name, x):
      return NORMS[c.norm](c, name=name)(x)

    def branch(name, x):
      """What a sublayer adds to the residual stream."""
      watch(self, f"{name}_out", x, ctx)
      site = {"mixer": 1, "ffn": 2}[name]
      x = dropout(x, c.dropout, ctx, site)
      # Other sites than dropout's, which are below 4.
      return stochastic_depth(x, c.stochastic_depth, c.n_layers, ctx, site + 4)

    sublayers = [("mixer", mix), ("ffn", feed)][: 1 + ffn.present]
    into_BTD = norm("norm", x_BTD) if c.residual == "parallel" else x_BTD
    alpha = (2 * c.n_layers) ** 0.25 if c.residual == "deep_norm" else 1.0
    for name, run in sublayers:
      if c.residual == "parallel":
        x_BTD = x_BTD + branch(name, run(into_BTD))
      elif c.residual == "parallel_norms":
        x_BTD = x_BTD + branch(name, run(norm(f"{name}_norm", into_BTD)))
      elif c.residual in NORMED_AFTER:
        x_BTD = alpha * x_BTD + branch(name, run(x_BTD))
        x_BTD = norm(f"{name}_norm", x_BTD)
      elif c.residual == "after":
        x_BTD = x_BTD + branch(name, norm(f"{name}_norm", run(x_BTD)))
      else:
        alone = name == "mixer" and mixer.of_stream
        y_BTD = run(x_BTD if alone else norm(f"{name}_norm", x_BTD))
        if c.residual == "sandwich":
          y_BTD = norm(f"{name}_out_norm", y_BTD)
        x_BTD = x_BTD + branch(name, y_BTD)
    watch(self, "stream", x_BTD, ctx)
    x_BTD = constrain(x_BTD, "batch", "seq", "embed")
    return x_BTD, kept if state else None, passed


class LayerGroup(nn.Module):
  """The blocks of one tile of the pattern; the body of the loop over depth."""

  config: ModelConfig
  layers: tuple[Layer, ...]

  @nn.compact
  def __call__(
    self,
    carry: tuple[Float[Array, "B T D"], dict[str, Array]],
    ctx: Context,
    first_layer: Int[Array, ""],
    states: tuple[State | None, ...],
  ) -> tuple[
    tuple[Float[Array, "B T D"], dict[str, Array]], tuple[State | None, ...]
  ]:
    """`carry` is the stream, and what first layers passed on."""
    c, (x_BTD, values) = self.config, carry
    block = Block
    if c.remat != "none":
      # The loop already keeps XLA from merging the recomputation.
      policy = REMAT[c.remat]
      block = nn.remat(Block, prevent_cse=False, policy=policy)
    new_states = []
    for i, (layer, state) in enumerate(zip(self.layers, states, strict=True)):
      # Those of model.first are no loop: each has its own depth.
      is_first = self.name == "first" and c.first_of(layer.mixer) == i
      here = dataclasses.replace(
        ctx,
        layer=first_layer + i,
        first_values=None if is_first else values,
      )
      run = block(c, layer, name=str(i))
      x_BTD, state, passed = run(x_BTD, here, state)
      values = values | passed
      new_states.append(state)
    return (x_BTD, values), tuple(new_states)


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
