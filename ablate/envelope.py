"""Compute-optimal envelope (Hoffmann 2022, arXiv:2203.15556, approach 1).

For each number of FLOPs on a log-spaced grid, the model size whose training
curve is lowest there; from that, N_opt ~ C^a and D_opt ~ C^b.

With few sizes N_opt(C) is a staircase, and a line through its steps has a slope
that depends on where the first and last step are cut off. So the power laws are
fitted to the ties instead: the C at which the envelope passes from one size to
the next, where N_opt is their geometric mean. For sizes a constant factor apart
that is exact for any law E + A / N^alpha + B / D^beta. A passage that happens
only because a curve ends or begins there is not a tie.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.ndimage import gaussian_filter1d

from ..errors import UserError
from .record import Record
from .scaling import percentiles

GRID_POINTS = 1_500
MOST_DRAWS = 100
SAME_LENGTH = 0.02  # of the log of tokens: rows differ in their padding


@dataclasses.dataclass(frozen=True)
class Curve:
  """Training loss over tokens of one run.

  Attributes:
    flops_per_token: 6 N where it is not given.
  """

  n_params: float
  tokens: Float[np.ndarray, " points"]
  loss: Float[np.ndarray, " points"]
  flops_per_token: float = 0.0

  @property
  def flops(self) -> Float[np.ndarray, " points"]:
    return self.tokens * (self.flops_per_token or 6.0 * self.n_params)


@dataclasses.dataclass(frozen=True)
class Envelope:
  """The lowest loss of any size at each number of FLOPs.

  Attributes:
    curves: that it is of.
    flops, n_params, loss: the envelope, where there is a curve.
    tie_flops, tie_params, tie_tokens: where it passes from size to size.
    a, b: N_opt ~ C^a, D_opt ~ C^b.
    samples: a and b of each bootstrap resample of curves.
    level: of intervals.
  """

  curves: tuple[Curve, ...]
  flops: Float[np.ndarray, " grid"]
  n_params: Float[np.ndarray, " grid"]
  loss: Float[np.ndarray, " grid"]
  tie_flops: Float[np.ndarray, " ties"]
  tie_params: Float[np.ndarray, " ties"]
  tie_tokens: Float[np.ndarray, " ties"]
  a: float
  b: float
  samples: Float[np.ndarray, "resamples 2"]
  level: float

  @property
  def intervals(self) -> dict[str, tuple[float, float]]:
    return {
      name: percentiles(x, self.level)
      for name, x in zip("ab", self.samples.T, strict=True)
    }


def envelope(
  curves: Sequence[Curve],
  *,
  smooth: float = 0.0,
  resamples: int = 200,
  level: float = 0.95,
  seed: int = 0,
) -> Envelope:
  """Follows the lowest curve over FLOPs and fits the power laws to its ties.

  Args:
    curves: of at least 4 sizes; those of one size and length (seeds) are
      averaged, and of the lengths of a size the lowest counts.
    smooth: standard deviation, in points, of the Gaussian that smooths the log
      of the losses first; for curves of training loss.

  Raises:
    UserError: curves that leave fewer than 2 ties.
  """
  check(curves)
  log_c = np.log(np.concatenate([curve.flops for curve in curves]))
  grid = np.linspace(log_c.min(), log_c.max(), GRID_POINTS)
  sizes, number = np.unique([c.n_params for c in curves], return_inverse=True)
  on_grid = np.array([interpolate(curve, grid, smooth) for curve in curves])
  length = lengths(curves)
  per_token = np.array([c.flops[0] / c.tokens[0] for c in curves])

  def passages(chosen):
    """Losses by size, and the ties, of these curves."""
    losses = np.full((len(sizes), len(grid)), np.nan)
    cost = np.full(len(sizes), np.nan)
    for i in np.unique(number[chosen]):
      of_size = chosen[number[chosen] == i]
      # A short schedule ends lower than a long one is by then: of the lengths
      # that a size was trained for, the best at each C counts.
      means = [
        on_grid[of_size[length[of_size] == k]].mean(0)
        for k in np.unique(length[of_size])
      ]
      losses[i] = np.fmin.reduce(means)
      cost[i] = per_token[of_size].mean()
    return losses, ties(grid, losses, sizes, cost)

  everything = np.arange(len(curves))
  losses, (tie_c, tie_n, tie_d) = passages(everything)
  if len(tie_c) < 2:
    said = ", ".join(f"{size:,.0f}" for size in sizes)
    raise UserError(
      f"curves of n_params={said} pass from one size to the next at"
      f" {len(tie_c)} point(s): a power law needs at least 2; add sizes, or"
      " train the small ones until a larger one is better"
    )
  rng, samples = np.random.default_rng(seed), []
  for _ in range(resamples * MOST_DRAWS):
    c, n, d = passages(rng.choice(everything, len(curves)))[1]
    if len(c) >= 2:
      samples.append((slope(c, n), slope(c, d)))
    if len(samples) == resamples:
      break
  covered = np.isfinite(losses).any(0)
  lowest = np.where(np.isfinite(losses), losses, np.inf)[:, covered]
  return Envelope(
    tuple(curves),
    np.exp(grid[covered]),
    sizes[lowest.argmin(0)],
    np.exp(lowest.min(0)),
    *np.exp([tie_c, tie_n, tie_d]),
    a=slope(tie_c, tie_n),
    b=slope(tie_c, tie_d),
    samples=np.array(samples).reshape(-1, 2),
    level=level,
  )


def check(curves: Sequence[Curve]) -> None:
  for curve in curves:
    for name in ("tokens", "loss"):
      values = np.asarray(getattr(curve, name))
      if len(values) < 2 or not (np.isfinite(values) & (values > 0)).all():
        raise UserError(
          f"{name} of the curve of n_params={curve.n_params}: at least 2 values"
          " are needed, all positive and finite; leave out that run"
        )
  sizes = {curve.n_params for curve in curves}
  if len(sizes) < 4:
    raise UserError(
      f"curves of {len(sizes)} size(s) {sorted(sizes)}: an envelope with"
      " intervals needs at least 4; add runs of other sizes"
    )


def lengths(curves: Sequence[Curve]) -> Int[np.ndarray, " curves"]:
  """A number for each length of training; seeds of one differ by a little."""
  last = np.log([curve.tokens[-1] for curve in curves])
  order = np.argsort(last, kind="stable")
  found = np.zeros(len(curves), int)
  found[order[1:]] = np.cumsum(np.diff(last[order]) > SAME_LENGTH)
  return found


def interpolate(
  curve: Curve, grid: Float[np.ndarray, " grid"], smooth: float
) -> Float[np.ndarray, " grid"]:
  """log loss at each log C of the grid; nan where the curve does not reach."""
  log_loss = np.log(curve.loss)
  if smooth:
    log_loss = gaussian_filter1d(log_loss, smooth, mode="nearest")
  return np.interp(grid, np.log(curve.flops), log_loss, np.nan, np.nan)


def ties(grid, losses, sizes, per_token):
  """log C, log N_opt and log D_opt where one size takes over from another."""
  lowest = np.where(np.isfinite(losses), losses, np.inf)
  covered = np.isfinite(lowest).any(0)
  best = lowest.argmin(0)
  used = np.unique(best[covered])
  found = []
  for i, j in itertools.pairwise(used):
    # By counting: noise may make the envelope go to and fro around a tie.
    before = np.sum(covered & (best <= i)) + np.argmax(covered)
    around = losses[[i, j]][:, max(before - 2, 0) : before + 2]
    if np.isfinite(around).all() and around.shape[1] == 4:
      c = (grid[before - 1] + grid[before]) / 2
      n = np.log(sizes[[i, j]]).mean()
      found.append((c, n, c - np.log(per_token[[i, j]]).mean()))
  return np.array(found).reshape(-1, 3).T


def slope(x, y) -> float:
  return float(np.polyfit(x, y, 1)[0])


def curves_of(record: Record, metric: str = "") -> list[Curve]:
  """The curves of a sweep's finished runs, tokens in proportion to steps."""
  metric = metric or record.facts.metric
  found = []
  for run in record.runs:
    if run.status != "finished":
      continue
    if metric not in run.curves:
      raise UserError(
        f"metric={metric!r} has no curve in {run.workdir}; use one of"
        f" {', '.join(sorted(run.curves))}"
      )
    points = [(step, value) for step, value in run.curves[metric] if step > 0]
    step, loss = np.array(points, float).reshape(-1, 2).T
    per_token = run.train_flops / run.tokens
    tokens = step * run.tokens / run.steps
    found.append(Curve(float(run.params), tokens, loss, per_token))
  return found
