"""Scaling law L(N, D) (Hoffmann 2022, arXiv:2203.15556, approach 3).

    L(N, D) = E + A / N^alpha + B / D^beta

is fitted to runs by the sum of Huber losses (delta 1e-3) of log L, from every
point of the paper's grid of starts. The compute-optimal exponents follow:
N_opt ~ C^a with a = beta / (alpha + beta), and D_opt ~ C^b with b = 1 - a.

The original's optimizer stopped early, because its objective was a mean of tiny
numbers against an absolute tolerance, and its intervals were far too narrow
(Besiroglu et al. 2024, arXiv:2404.10102). Hence: the objective is a sum, in
units of delta^2; it is minimized until it no longer falls, by
Levenberg-Marquardt rather than L-BFGS, since that does all starts and resamples
at once (the minimum is L-BFGS's); and intervals are those of a bootstrap over
runs, whose coverage is simulated in the tests.

A figure needs no more than a `Fit`: its runs, `predict` along N at each D, and
`intervals` for the legend.
"""

import dataclasses
import itertools
import math

import numpy as np
from jaxtyping import Bool, Float

from ..errors import UserError
from .huber import minimize, predicted
from .record import Record

PARAMETERS = ("E", "A", "B", "alpha", "beta")
# Of log A, log B, log E, alpha, beta: the paper's section D.3.
GRID = (
  np.arange(0.0, 30.0, 5.0),
  np.arange(0.0, 30.0, 5.0),
  np.arange(-1.0, 1.5, 0.5),
  np.arange(0.0, 2.5, 0.5),
  np.arange(0.0, 2.5, 0.5),
)
# After a few steps from every start the best of them go on to the end.
FIRST_STEPS, SURVIVORS = 3, 48
MOST_STEPS = 1_000


@dataclasses.dataclass(frozen=True)
class Prediction:
  """Of the loss of one run: low and high hold its own noise too."""

  loss: float
  low: float
  high: float


@dataclasses.dataclass(frozen=True)
class Fit:
  """A fitted law with the runs that it was fitted to.

  Attributes:
    n_params, n_tokens, loss: the runs.
    E, A, B, alpha, beta: the parameters.
    samples: the same five, in that order, for each bootstrap resample.
    residuals: log loss - log L(N, D), widened by sqrt(n / (n - 5)) for the
      five parameters that bent the law towards them.
    level: of all intervals.
  """

  n_params: Float[np.ndarray, " n"]
  n_tokens: Float[np.ndarray, " n"]
  loss: Float[np.ndarray, " n"]
  E: float
  A: float
  B: float
  alpha: float
  beta: float
  samples: Float[np.ndarray, "resamples 5"]
  residuals: Float[np.ndarray, " n"]
  level: float

  @property
  def a(self) -> float:
    """N_opt ~ C^a."""
    return self.beta / (self.alpha + self.beta)

  @property
  def b(self) -> float:
    """D_opt ~ C^b."""
    return self.alpha / (self.alpha + self.beta)

  @property
  def intervals(self) -> dict[str, tuple[float, float]]:
    """Percentile intervals of E, A, B, alpha, beta, a and b."""
    alpha, beta = self.samples[:, 3], self.samples[:, 4]
    values = dict(zip(PARAMETERS, self.samples.T, strict=True))
    values |= {"a": beta / (alpha + beta), "b": alpha / (alpha + beta)}
    return {name: percentiles(x, self.level) for name, x in values.items()}

  def predict(self, n_params: float, n_tokens: float) -> Prediction:
    """The loss of a run, with an interval for what one run will show."""
    here = np.array([[self.E, self.A, self.B, self.alpha, self.beta]])
    log_loss = np.log(law(self.samples, n_params, n_tokens))
    noise = np.random.default_rng(0).choice(self.residuals, len(log_loss))
    low, high = percentiles(np.exp(log_loss + noise), self.level)
    return Prediction(float(law(here, n_params, n_tokens)[0]), low, high)


@dataclasses.dataclass(frozen=True)
class HeldOut:
  """Runs that a fit to smaller ones had to predict."""

  fit: Fit
  n_params: Float[np.ndarray, " held"]
  n_tokens: Float[np.ndarray, " held"]
  loss: Float[np.ndarray, " held"]
  predictions: tuple[Prediction, ...]
  inside: Bool[np.ndarray, " held"]


def percentiles(
  values: Float[np.ndarray, " n"], level: float
) -> tuple[float, float]:
  low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
  return float(low), float(high)


def law(
  parameters: Float[np.ndarray, "sets 5"], n_params: float, n_tokens: float
) -> Float[np.ndarray, " sets"]:
  """L(N, D) of each set of E, A, B, alpha, beta."""
  E, A, B, alpha, beta = parameters.T
  return E + A * n_params**-alpha + B * n_tokens**-beta


def fit(
  n_params: Float[np.ndarray, " n"],
  n_tokens: Float[np.ndarray, " n"],
  loss: Float[np.ndarray, " n"],
  *,
  resamples: int = 1_000,
  level: float = 0.95,
  seed: int = 0,
) -> Fit:
  """Fits E + A / N^alpha + B / D^beta to runs.

  Raises:
    UserError: a value that is not positive and finite, or runs at too few
      points to tell five parameters.
  """
  n_params, n_tokens, loss = (
    np.asarray(v, float) for v in (n_params, n_tokens, loss)
  )
  check(n_params, n_tokens, loss)
  log_n, log_d, target = np.log(n_params), np.log(n_tokens), np.log(loss)
  # About the middle of the runs, log A and alpha hardly depend on each other.
  mid_n, mid_d = log_n.mean(), log_d.mean()
  x, y = log_n - mid_n, log_d - mid_d
  starts = np.array(list(itertools.product(*GRID)))
  starts[:, 0] -= starts[:, 3] * mid_n
  starts[:, 1] -= starts[:, 4] * mid_d
  once = np.ones((1, len(loss)))
  found, value = minimize(starts, x, y, target, once, FIRST_STEPS)
  found = found[np.argsort(value)[:SURVIVORS]]
  found, value = minimize(found, x, y, target, once, MOST_STEPS)
  best = found[[value.argmin()]]

  rng = np.random.default_rng(seed)
  counts = draw(rng, resamples, n_params, n_tokens)
  again, _ = minimize(
    best.repeat(resamples, 0), x, y, target, counts, MOST_STEPS
  )

  def natural(theta):
    log_a, log_b, log_e, alpha, beta = theta.T
    log_a, log_b = log_a + alpha * mid_n, log_b + beta * mid_d
    return np.stack([*np.exp([log_e, log_a, log_b]), alpha, beta], -1)

  residuals = target - predicted(best, x, y)[0][0]
  return Fit(
    n_params,
    n_tokens,
    loss,
    *natural(best)[0].tolist(),
    samples=natural(again),
    residuals=residuals * math.sqrt(len(x) / (len(x) - len(PARAMETERS))),
    level=level,
  )


def hold_out(
  n_params: Float[np.ndarray, " n"],
  n_tokens: Float[np.ndarray, " n"],
  loss: Float[np.ndarray, " n"],
  *,
  points: int = 1,
  **options,
) -> HeldOut:
  """Fits the smaller runs and predicts those of the largest N D.

  Args:
    points: how many points (N, D) are held out; seeds of a point go together.
    options: of `fit`.
  """
  n_params, n_tokens, loss = (
    np.asarray(v, float) for v in (n_params, n_tokens, loss)
  )
  where = np.stack([n_params * n_tokens, n_params, n_tokens], -1)
  distinct, number = np.unique(where, axis=0, return_inverse=True)
  held = number >= len(distinct) - points
  smaller = fit(n_params[~held], n_tokens[~held], loss[~held], **options)
  predictions = tuple(
    smaller.predict(float(n), float(d))
    for n, d in zip(n_params[held], n_tokens[held], strict=True)
  )
  low, high = np.array([(p.low, p.high) for p in predictions]).T
  inside = (low <= loss[held]) & (loss[held] <= high)
  return HeldOut(
    smaller, n_params[held], n_tokens[held], loss[held], predictions, inside
  )


def points_of(record: Record, metric: str = "") -> tuple[np.ndarray, ...]:
  """N, D and loss of a sweep's finished runs, for `fit` and `hold_out`."""
  metric = metric or record.facts.metric
  runs = [run for run in record.runs if run.status == "finished"]
  missing = [run.workdir for run in runs if metric not in run.final]
  if missing:
    raise UserError(
      f"metric={metric!r} is not among the last values of {missing[0]}; use"
      f" one of {', '.join(sorted(runs[0].final))}"
    )
  rows = [(run.params, run.tokens, run.final[metric]) for run in runs]
  return tuple(np.array(rows, float).reshape(-1, 3).T)


def fit_record(record: Record, metric: str = "", **options) -> Fit:
  """`fit` to a sweep's finished runs."""
  return fit(*points_of(record, metric), **options)


def tells(n_params: np.ndarray, n_tokens: np.ndarray) -> bool:
  """Whether runs at these points can tell five parameters."""
  return (
    len(np.unique(n_params)) >= 3
    and len(np.unique(n_tokens)) >= 3
    and len(set(zip(n_params, n_tokens, strict=True))) >= len(PARAMETERS)
  )


def check(n_params: np.ndarray, n_tokens: np.ndarray, loss: np.ndarray):
  named = {"n_params": n_params, "n_tokens": n_tokens, "loss": loss}
  if len({v.shape for v in named.values()}) > 1 or loss.ndim != 1:
    shapes = {name: v.shape for name, v in named.items()}
    raise UserError(f"{shapes}: give one number of each for every run")
  for name, values in named.items():
    wrong = values[~(np.isfinite(values) & (values > 0))]
    if len(wrong):
      raise UserError(
        f"{name} has {wrong[0]}: its log is taken, so that it must be positive"
        " and finite; leave out that run"
      )
    if name != "loss" and len(np.unique(values)) < 3:
      raise UserError(
        f"{name} has {len(np.unique(values))} value(s): an exponent needs at"
        " least 3; add runs of other sizes"
      )
  points = len(set(zip(n_params, n_tokens, strict=True)))
  if points <= len(PARAMETERS):
    raise UserError(
      f"runs at {points} points (N, D): the law has {len(PARAMETERS)}"
      f" parameters and needs at least {len(PARAMETERS) + 1}; add runs"
    )


def draw(
  rng: np.random.Generator,
  resamples: int,
  n_params: Float[np.ndarray, " n"],
  n_tokens: Float[np.ndarray, " n"],
) -> Float[np.ndarray, "resamples n"]:
  """How often each run is in each resample, of those that can be fitted."""
  n, counts = len(n_params), []
  while len(counts) < resamples:
    chosen = rng.integers(n, size=n)
    if tells(n_params[chosen], n_tokens[chosen]):
      counts.append(np.bincount(chosen, minlength=n))
  return np.array(counts, float)
