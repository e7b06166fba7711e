"""Mean of the latest checkpoints (Kaddour 2022, arXiv:2209.14981).

A sliding window over stochastic weight averaging (Izmailov et al. 2018,
arXiv:1803.05407). The snapshots are part of the optimizer's state, and cost
`window` times the memory of the weights in fp32.
"""

import dataclasses

import jax
import jax.numpy as jnp

from ...errors import UserError
from ..ranges import require
from . import Average


@dataclasses.dataclass(frozen=True)
class Options:
  window: int = 5  # snapshots in the mean
  every: int = 100  # updates between snapshots

  def __post_init__(self):
    require("latest", self, "at least 1", "window", "every")


def check(options: Options, steps: int) -> None:
  if options.every > steps:
    raise UserError(
      f"opt.opts.latest.every={options.every} takes no snapshot in"
      f" steps={steps}; lower it, or use opt.average='none'"
    )


def latest(options: Options) -> Average:
  """Before the first snapshot, the weights themselves."""
  window, every = options.window, options.every

  def init(params):
    snapshots = jax.tree.map(lambda p: jnp.zeros((window, *p.shape)), params)
    return {"snapshots": snapshots, "taken": jnp.zeros((), jnp.int32)}

  def update(state, params, count):
    taken = state["taken"]
    due = (count + 1) % every == 0

    def put(snapshots, p):
      # Reads and writes one snapshot: the others stay where they are.
      old = jax.lax.dynamic_index_in_dim(snapshots, taken % window, 0, False)
      return snapshots.at[taken % window].set(jnp.where(due, p, old))

    snapshots = jax.tree.map(put, state["snapshots"], params)
    return {"snapshots": snapshots, "taken": taken + due}

  def eval_params(state, params):
    n = jnp.minimum(state["taken"], window)

    def mean(snapshots, p):
      # A snapshot that is not taken yet is 0.
      total = snapshots.sum(0) / jnp.maximum(n, 1)
      return jnp.where(n > 0, total, p).astype(p.dtype)

    return jax.tree.map(mean, state["snapshots"], params)

  return Average(init, update, eval_params)
