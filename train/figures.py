"""Figures: loss.png and detail.png of a run, and muP's coordinate check."""

import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from .logs import read_lines, read_metrics


def _figure(**settings: Any) -> Any:
  """A figure that pyplot, and with it a notebook, knows nothing of."""
  from matplotlib.figure import Figure

  return Figure(**settings)


def plot_loss(
  workdir: pathlib.Path, title: str, references: Mapping[str, float]
) -> None:
  """Draws loss.png: training loss, and held-out bits per byte or accuracy.

  Args:
    references: name -> bits per byte, as level lines.
  """
  lines = read_metrics(workdir)
  train = [(x["step"], x["loss"]) for x in lines if "loss" in x]
  name = "bits per byte"
  heldout = _points(lines, "heldout/bits_per_byte")
  if not heldout:  # of a task, which has no bytes
    name, heldout = "accuracy", _points(lines, "heldout/accuracy")
  figure = _figure(figsize=(9, 3.4))
  left, right = figure.subplots(1, 2)
  left.plot(*zip(*train, strict=True), color="C0", linewidth=1)
  left.set(xlabel="step", ylabel="training loss (nats per token)")
  if heldout:
    right.plot(*zip(*heldout, strict=True), "o-", color="C1", label="model")
  for i, (reference, value) in enumerate(references.items()):
    style = {"color": f"C{i + 2}", "linestyle": "--", "linewidth": 1}
    right.axhline(value, label=reference, **style)
  right.set(xlabel="step", ylabel=f"held-out {name}")
  right.legend(frameon=False)
  for axes in (left, right):
    axes.spines[["top", "right"]].set_visible(False)
  figure.suptitle(title, fontsize=10)
  figure.tight_layout()
  figure.savefig(workdir / "loss.png", dpi=150)


def _points(lines: list[dict[str, Any]], key: str) -> list[tuple[int, float]]:
  # null is what is not finite: a gap in the line.
  nan = math.nan
  return [
    (x["step"], nan if x[key] is None else x[key]) for x in lines if key in x
  ]


def plot_detail(workdir: pathlib.Path, title: str) -> None:
  """Draws detail.png, layers by updates, where there is a detail.jsonl."""
  lines = read_lines(workdir / "detail.jsonl")
  if not lines:
    return
  panels = {
    "|update| / |weight|": [_ratios(line) for line in lines],
    "gradient norm": [_norms(line["grad_norm"]) for line in lines],
    "residual stream, rms": [_streams(line) for line in lines],
  }
  figure = _figure(figsize=(12, 3.4))
  all_axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)
  steps = [line["step"] for line in lines]
  for axes, (name, columns) in zip(all_axes[0], panels.items(), strict=True):
    layers = sorted({layer for column in columns for layer in column})
    values = [
      [math.log10(column.get(layer) or math.nan) for column in columns]
      for layer in layers
    ]
    image = axes.imshow(
      values, origin="lower", aspect="auto", interpolation="nearest"
    )
    shown = range(0, len(steps), max(1, len(steps) // 5))
    axes.set_xticks(list(shown), [str(steps[i]) for i in shown])
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="step", title=f"log10 of {name}")
    axes.title.set_fontsize(9)
    figure.colorbar(image, ax=axes)
  all_axes[0][0].set_ylabel("layer")
  figure.suptitle(title, fontsize=10)
  figure.tight_layout()
  figure.savefig(workdir / "detail.png", dpi=150)


def _layer(name: str) -> int | None:
  """3 of layers/3/mixer/q/kernel; None for what is in no layer."""
  parts = name.split("/")
  return int(parts[1]) if parts[0] == "layers" else None


def _norms(norms: Mapping[str, float | None]) -> dict[int, float]:
  """The norm of each layer from those of its tensors."""
  squares: dict[int, float] = {}
  for name, norm in norms.items():
    layer = _layer(name)
    if layer is not None and norm is not None:
      squares[layer] = squares.get(layer, 0.0) + norm**2
  return {layer: math.sqrt(square) for layer, square in squares.items()}


def _ratios(line: Mapping[str, Any]) -> dict[int, float]:
  weights = line["weight_norm"]
  changes = {
    name: ratio * weights[name]
    for name, ratio in line["update_ratio"].items()
    if ratio is not None and weights[name] is not None
  }
  whole = _norms(weights)
  return {k: v / whole[k] for k, v in _norms(changes).items() if whole[k]}


def _streams(line: Mapping[str, Any]) -> dict[int, float | None]:
  found = {
    _layer(k): v for k, v in line["rms"].items() if k.endswith("/stream")
  }
  return {layer: v for layer, v in found.items() if layer is not None}


def plot_coordinates(
  file: pathlib.Path,
  widths: Sequence[int],
  moves: Mapping[str, Mapping[str, Any]],
) -> None:
  """Draws a coordinate check: a row for each parametrization, log-log.

  Args:
    file: a PNG, or what its suffix says.
    moves: parametrization -> what is watched -> [widths, updates].
  """
  from matplotlib import colormaps

  names = list(next(iter(moves.values())))
  size = (2.3 * len(names) + 0.8, 2.3 * len(moves) + 0.6)
  figure = _figure(figsize=size, layout="constrained")
  grid = figure.subplots(
    len(moves), len(names), sharex=True, sharey="col", squeeze=False
  )
  for row, (parametrization, watched) in zip(grid, moves.items(), strict=True):
    row[0].set_ylabel(f"{parametrization}\nmean |change|")
    for axes, name in zip(row, names, strict=True):
      updates = range(len(watched[name][0]))
      for t in updates:
        color = colormaps["viridis"](t / max(1, len(updates) - 1) * 0.9)
        sizes = [row[t] for row in watched[name]]
        axes.loglog(
          widths, sizes, "o-", color=color, markersize=3, label=f"{t + 1}"
        )
      axes.spines[["top", "right"]].set_visible(False)
      axes.set_xticks(widths, [str(width) for width in widths])
      axes.minorticks_off()
  for axes, name in zip(grid[0], names, strict=True):
    axes.set_title(name.replace("_", " "), fontsize=10)
  for axes in grid[-1]:
    axes.set_xlabel("d_model")
  grid[0][-1].legend(title="updates", frameon=False, fontsize=7)
  figure.savefig(file, dpi=150)
