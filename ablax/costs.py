"""`ablax info --costs`: FLOPs by part, and bytes, of a run's config.

Counted anew, by tracing: a run's files have none of it.
"""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from rich.table import Table

from .ablate.costs import one_device
from .train.accounting import accounts, activations_by_remat, flops_by_part
from .train.config import from_dict
from .train.report import count, size
from .train.workdir import read_run


def costs(workdir: str | pathlib.Path) -> dict[str, Any]:
  """What a run's config costs on one device, as plain values.

  Raises:
    UserError: the folder does not say which config it is.
  """
  run = read_run(pathlib.Path(workdir).expanduser())
  config = from_dict(run["config"]).with_vocab(run["vocab_size"])
  setup = one_device(config)
  parts = flops_by_part(setup)
  return {
    **dataclasses.asdict(accounts(setup)),
    "flops_by_part": {k: dataclasses.asdict(v) for k, v in parts.items()},
    "remat": config.model.remat,
    "activations_by_remat": activations_by_remat(setup),
  }


def show_costs(s: Mapping[str, Any], console: Any) -> None:
  """Prints the costs in a run's story."""
  c = s["costs"]
  table = Table(
    *("FLOPs per token", "forward", "backward", "share"),
    title=f"costs of {s['name']}",
    title_justify="left",
    box=None,
  )
  for column in table.columns[1:]:
    column.justify = "right"
  parts = {part: tuple(f.values()) for part, f in c["flops_by_part"].items()}
  whole = tuple(map(sum, zip(*parts.values(), strict=True)))
  for part, flops in {**parts, "in all": whole}.items():
    if any(flops):
      share = f"{sum(flops) / sum(whole):.1%}"
      table.add_row(part, *map(count, flops), share)
  console.print(table, markup=False)
  kept = [
    f"{size(n)} {remat}" for remat, n in c["activations_by_remat"].items()
  ]
  state = "none: the model can't generate text"
  if c["decode_state_bytes"] is not None:
    state = (
      f"{size(c['decode_state_bytes'])} at model.max_len,"
      f" {size(c['decode_bytes_per_token'])} for each further token"
    )
  rows = {
    "executed": f"{count(c['executed_flops'])} with remat {c['remat']}",
    "parameters": f"{count(c['params'])} in {size(c['param_bytes'])}",
    "optimizer": size(c["opt_bytes"]),
    "activations": f"{', '.join(kept)} by remat; of one microbatch",
    "decode state": state,
  }
  table = Table(show_header=False, box=None)
  table.add_column(style="bold", no_wrap=True)
  table.add_column(overflow="fold")
  for row in rows.items():
    table.add_row(*row)
  console.print(table, markup=False)
