"""What a sweep of sizes and tokens says of scaling: lines and a figure.

Approach 3 of Chinchilla (Hoffmann et al. 2022, arXiv:2203.15556) on the last
losses, approach 1 on the learning curves, and a prediction of the largest run
by a fit that has not seen it.
"""

from matplotlib.figure import Figure

from ..errors import UserError
from .envelope import curves_of, envelope
from .record import Record
from .scaling import fit_record, hold_out, points_of
from .scaling_figure import scaling

_SMOOTH = 2.0  # points of the training loss, for approach 1


def describe(
  record: Record, metric: str = ""
) -> tuple[list[str], dict[str, Figure]]:
  """Lines for the report, and its figure.

  What the runs do not suffice for is said in a line of its own.

  Args:
    metric: that the law is of; "": the sweep's.
  """
  metric = metric or record.facts.metric
  lines: list[str] = []
  try:
    law = fit_record(record, metric)
  except UserError as error:
    return [f"No scaling law is fitted: {error}."], {}
  of = law.intervals
  said = ", ".join(
    f"{name} = {getattr(law, name):.3g} {_interval(of[name])}"
    for name in ("E", "A", "B", "alpha", "beta")
  )
  lines.append(f"{metric}: L(N, D) = E + A / N^alpha + B / D^beta with {said}.")
  lines.append(
    f"Compute-optimal by that fit (approach 3): N ~ C^{law.a:.2f}"
    f" {_interval(of['a'])}, D ~ C^{law.b:.2f} {_interval(of['b'])}."
  )
  held = []
  try:
    found = hold_out(*points_of(record, metric))
    for n, d, loss, guess, inside in zip(
      found.n_params,
      found.n_tokens,
      found.loss,
      found.predictions,
      found.inside,
      strict=True,
    ):
      held.append((float(n), float(d), float(loss)))
      word = "inside" if inside else "outside"
      lines.append(
        f"Held out: N = {n:,.0f}, D = {d:,.0f} has {loss:.3f}; a fit to the"
        f" smaller runs predicts {guess.loss:.3f}"
        f" {_interval((guess.low, guess.high))}: {word}."
      )
    figure = scaling(found.fit, held, metric)
  except UserError as error:
    lines.append(f"No run is held out: {error}.")
    figure = scaling(law, metric=metric)
  try:
    path = envelope(curves_of(record, "loss"), smooth=_SMOOTH)
    lines.append(
      "Compute-optimal by the envelope of the learning curves (approach 1):"
      f" N ~ C^{path.a:.2f} {_interval(path.intervals['a'])}, D ~"
      f" C^{path.b:.2f} {_interval(path.intervals['b'])}."
    )
  except UserError as error:
    lines.append(f"Approach 1 has no answer: {error}.")
  lines.append("Intervals are those of a bootstrap over runs, 95 %.")
  return lines, {"scaling": figure}


def _interval(of: tuple[float, float]) -> str:
  return f"[{of[0]:.3g}, {of[1]:.3g}]"
