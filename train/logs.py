"""What a run leaves to read: metrics.jsonl, TensorBoard events, loss.png."""

import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any

from tensorboardX import SummaryWriter


class Logs:
  """Writes metrics of a run; lines after a restored step are dropped."""

  def __init__(self, workdir: pathlib.Path, step: int):
    self._file = workdir / "metrics.jsonl"
    kept = [line for line in read_metrics(workdir) if line["step"] <= step]
    text = "".join(json.dumps(line) + "\n" for line in kept)
    # Whole or not at all: a kill here must not cost the history.
    partial = self._file.with_suffix(".tmp")
    partial.write_text(text, encoding="utf-8")
    partial.replace(self._file)
    self._stream = self._file.open("a", encoding="utf-8")
    self._events = SummaryWriter(
      str(workdir / "tensorboard"), purge_step=step + 1
    )

  def write(self, step: int, metrics: Mapping[str, Any]) -> None:
    """Appends one line; numbers also go to TensorBoard.

    What is not finite, such as the gradient norm of a skipped update, is null:
    JSON has no word for it.
    """
    metrics = {
      k: None if isinstance(v, float) and not math.isfinite(v) else v
      for k, v in metrics.items()
    }
    self._stream.write(json.dumps({"step": step, **metrics}) + "\n")
    self._stream.flush()
    for name, value in metrics.items():
      if isinstance(value, int | float):
        self._events.add_scalar(name, value, step)

  def flush(self) -> None:
    """Writes TensorBoard's buffer out, so that a kill cannot lose it."""
    self._events.flush()

  def close(self) -> None:
    self._stream.close()
    self._events.close()


def read_metrics(workdir: pathlib.Path) -> list[dict[str, Any]]:
  """The lines of metrics.jsonl; a last one that a kill cut off is left out."""
  file = workdir / "metrics.jsonl"
  if not file.is_file():
    return []
  lines = []
  for line in file.read_text(encoding="utf-8").splitlines():
    try:
      lines.append(json.loads(line))
    except json.JSONDecodeError:
      break
  return lines


def plot_loss(
  workdir: pathlib.Path, title: str, references: Mapping[str, float]
) -> None:
  """Draws loss.png: training loss, and held-out bits per byte.

  Args:
    references: name -> bits per byte, as level lines.
  """
  import matplotlib

  matplotlib.use("Agg")
  import matplotlib.pyplot as plt

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
