"""Rows of tokens on the devices: copy them, and consume a token each."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..models.config import ModelConfig
from ..models.lm import apply
from ..models.param import Params
from ..models.state import select_rows
from .filters import Seen


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=("state", "prompt_BV", "counts_BV"),
  meta_fields=("n_rows", "halves"),
)
@dataclasses.dataclass(frozen=True)
class Rows:
  """What the device keeps of B rows.

  An array of X = `halves` B rows has those of the prompts and then, with
  guidance, those of the negative prompt.

  Attributes:
    state: of the model, X rows.
    prompt_BV, counts_BV: as in `filters.Seen`; None where no filter counts.
    n_rows: B.
    halves: 2 with guidance, else 1.
  """

  state: Any
  prompt_BV: Bool[Array, "B V"] | None
  counts_BV: Int[Array, "B V"] | None
  n_rows: int
  halves: int

  def select(self, config: ModelConfig, parents_B: Int[Array, " B"]) -> "Rows":
    """Row i becomes what row `parents_B[i]` was; more or fewer than before."""
    halves = jnp.arange(self.halves)[:, None]
    parents_X = (self.n_rows * halves + parents_B).reshape(-1)
    state = select_rows(config, self.state, parents_X)
    prompt_BV, counts_BV = (
      None if a is None else a[parents_B]
      for a in (self.prompt_BV, self.counts_BV)
    )
    n_rows = parents_B.shape[0]
    return Rows(state, prompt_BV, counts_BV, n_rows, self.halves)


def forward(
  config: ModelConfig,
  params: Params,
  rows: Rows,
  tokens_X: Int[Array, " X"],
  positions_X: Int[Array, " X"],
  going_B: Bool[Array, " B"],
) -> tuple[Rows, Seen, Float[Array, "B D"]]:
  """Consumes a token a row; a row that is not going gets padding.

  Returns:
    the rows after it, what filters may see of the next token, and the hidden
    vectors that its logits come from.
  """
  B = going_B.shape[0]
  going_XT = jnp.tile(going_B, rows.halves)[:, None].astype(jnp.int32)
  output = apply(
    config,
    params,
    tokens_X[:, None],
    positions_X[:, None],
    going_XT,
    rows.state,
  )
  logits_XV = output.logits()[:, 0]
  counts_BV = rows.counts_BV
  if counts_BV is not None:
    counts_BV = counts_BV.at[jnp.arange(B), tokens_X[:B]].add(1)
  unguided_BV = logits_XV[B:] if rows.halves == 2 else None
  seen = Seen(logits_XV[:B], unguided_BV, rows.prompt_BV, counts_BV)
  rows = dataclasses.replace(rows, state=output.state, counts_BV=counts_BV)
  return rows, seen, output.hidden_BTD[:B, 0]
