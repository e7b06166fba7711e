"""The figures of a run: loss.png, and detail.png where it was looked at."""

import math
import pathlib
from collections.abc import Mapping
from typing import Any

from .logs import read_lines, read_metrics


def _pyplot() -> Any:
  import matplotlib

  matplotlib.use("Agg")
  import matplotlib.pyplot as plt

  return plt


def plot_loss(
  workdir: pathlib.Path, title: str, references: Mapping[str, float]
) -> None:
  """Draws loss.png: training loss, and held-out bits per byte.

  Args:
    references: name -> bits per byte, as level lines.
  """
  plt = _pyplot()
  lines = read_metrics(workdir)
  train = [(x["step"], x["loss"]) for x in lines if "loss" in x]
  key = "heldout/bits_per_byte"
  heldout = [(x["step"], x[key]) for x in lines if key in x]
  figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
  left.plot(*zip(*train, strict=True), color="C0", linewidth=1)
  left.set(xlabel="step", ylabel="training loss (nats per token)")
  if heldout:
    right.plot(*zip(*heldout, strict=True), "o-", color="C1", label="model")
  for i, (name, value) in enumerate(references.items()):
    style = {"color": f"C{i + 2}", "linestyle": "--", "linewidth": 1}
    right.axhline(value, label=name, **style)
  right.set(xlabel="step", ylabel="held-out bits per byte")
  right.legend(frameon=False)
  for axes in (left, right):
    axes.spines[["top", "right"]].set_visible(False)
  figure.suptitle(title, fontsize=10)
  figure.tight_layout()
  figure.savefig(workdir / "loss.png", dpi=150)
  plt.close(figure)


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
  plt = _pyplot()
  figure, all_axes = plt.subplots(
    1, len(panels), figsize=(12, 3.4), sharey=True, squeeze=False
  )
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
  plt.close(figure)


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
