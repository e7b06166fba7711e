"""A scaling law L(N, D) with its runs, and those that it had to predict."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import matplotlib
import numpy as np
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from ..train.report import count
from . import drawing
from .figures import tick, with_unit

# A law has a curve for each number of tokens; of more, these are drawn.
CURVES = 5


@runtime_checkable
class Predicted(Protocol):
  """A loss, with an interval for what one run will show."""

  @property
  def loss(self) -> float: ...
  @property
  def low(self) -> float: ...
  @property
  def high(self) -> float: ...


@runtime_checkable
class Law(Protocol):
  """As much of a fit as a figure needs: its runs, and what it predicts."""

  @property
  def n_params(self) -> Any: ...
  @property
  def n_tokens(self) -> Any: ...
  @property
  def loss(self) -> Any: ...
  def predict(self, n_params: float, n_tokens: float) -> Predicted: ...


def scaling(
  fit: Law,
  held_out: Sequence[tuple[float, float, float]] = (),
  metric: str = "loss",
) -> Figure:
  """Loss over parameters, a curve with its interval for each number of tokens.

  Args:
    metric: that the loss is; its name says the unit.
    held_out: (parameters, tokens, loss) of runs that the fit did not see.
  """
  n, d, loss = (
    np.asarray(of, float) for of in (fit.n_params, fit.n_tokens, fit.loss)
  )
  all_n = [*n.tolist(), *(x for x, _, _ in held_out)]
  xs = np.geomspace(min(all_n), max(all_n), 40)
  curves = _tokens(d, [tokens for _, tokens, _ in held_out])
  low, high = np.log([min(*curves, *d), max(*curves, *d)])

  def colour(tokens: float) -> str:
    """An order, from dark to light, where arms would have none."""
    share = (np.log(tokens) - low) / (high - low) if high > low else 0.0
    return to_hex(matplotlib.colormaps["viridis"](0.85 * share))

  with drawing.style():
    figure = Figure(figsize=(5.6, 3.8))
    axes = figure.subplots()
    axes.set(xscale="log", yscale="log")
    ends = []
    for tokens in curves:
      told = [fit.predict(float(x), tokens) for x in xs]
      shade = colour(tokens)
      axes.plot(xs, [p.loss for p in told], linewidth=1.3, color=shade)
      axes.fill_between(
        xs,
        [p.low for p in told],
        [p.high for p in told],
        alpha=0.15,
        linewidth=0,
        color=shade,
      )
      name = f"{tick(count, tokens)} tokens"
      ends.append((float(xs[-1]), told[-1].loss, name, shade))
    axes.scatter(n, loss, s=15, c=[colour(t) for t in d], zorder=3)
    if held_out:
      _held_out(fit, held_out, axes)
      axes.legend(loc="lower left")
    axes.set(xlabel="parameters", ylabel=with_unit(metric))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda x, _: tick(count, x))
    # Losses span less than a decade: plain numbers, not powers.
    axes.yaxis.set_major_formatter(lambda y, _: f"{y:.3g}")
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_minor_locator(NullLocator())
    drawing.label_ends(axes, ends)
  return figure


def _tokens(d: np.ndarray, others: Sequence[float]) -> list[float]:
  """The numbers of tokens to draw a curve for: those of runs, if few."""
  distinct = sorted({*d.tolist(), *others})
  if len(distinct) <= CURVES:
    return distinct
  return np.geomspace(distinct[0], distinct[-1], CURVES).tolist()


def _held_out(
  fit: Law, runs: Sequence[tuple[float, float, float]], axes: Any
) -> None:
  told = [fit.predict(x, tokens) for x, tokens, _ in runs]
  middle = np.array([p.loss for p in told])
  axes.errorbar(
    [x for x, _, _ in runs],
    middle,
    yerr=[
      middle - [p.low for p in told],
      np.array([p.high for p in told]) - middle,
    ],
    fmt="_",
    color=drawing.COLOURS[1],
    capsize=3,
    linewidth=1.2,
    label="predicted, with its interval",
    zorder=4,
  )
  axes.plot(
    [x for x, _, _ in runs],
    [y for _, _, y in runs],
    "D",
    color=drawing.BASELINE,
    markersize=4.5,
    markerfacecolor="none",  # the interval is behind it
    label="held out, as it came",
    zorder=5,
  )
