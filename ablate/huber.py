"""Huber regression of log L(N, D) (Hoffmann 2022, arXiv:2203.15556, D.3).

With theta = (log A, log B, log E, alpha, beta), x = log N and y = log D,

    log L = logsumexp(log A - alpha x, log B - beta y, log E)

and the objective is the sum of Huber losses, delta 1e-3, of its difference from
the log of the measured loss. Many fits run at once: the first axis is of starts
or of resamples.
"""

import numpy as np
from jaxtyping import Float

DELTA = 1e-3
# A minimum: so many steps in a row that gained less than this part.
GAIN, PATIENCE = 1e-10, 12


def predicted(
  theta: Float[np.ndarray, "fits 5"],
  x: Float[np.ndarray, " n"],
  y: Float[np.ndarray, " n"],
) -> tuple[Float[np.ndarray, "fits n"], Float[np.ndarray, "3 fits n"]]:
  """log L for each set of parameters, and each term's share of L."""
  log_a, log_b, log_e, alpha, beta = theta.T[:, :, None]
  terms = np.stack(
    np.broadcast_arrays(log_a - alpha * x, log_b - beta * y, log_e)
  )
  most = terms.max(0)
  shares = np.exp(terms - most)
  total = shares.sum(0)
  return most + np.log(total), shares / total


def huber(
  residuals: Float[np.ndarray, "fits n"], counts: Float[np.ndarray, "fits n"]
) -> Float[np.ndarray, " fits"]:
  """Sum of Huber losses in units of delta^2."""
  inside = np.clip(residuals, -DELTA, DELTA)
  return (counts * inside * (residuals - inside / 2)).sum(-1) / DELTA**2


def minimize(
  theta: Float[np.ndarray, "fits 5"],
  x: Float[np.ndarray, " n"],
  y: Float[np.ndarray, " n"],
  target: Float[np.ndarray, " n"],
  counts: Float[np.ndarray, "#fits n"],
  steps: int,
) -> tuple[Float[np.ndarray, "fits 5"], Float[np.ndarray, " fits"]]:
  """Levenberg-Marquardt on many starts at once.

  Each step solves the least squares that touch the Huber loss from above at
  the residuals (weights min(1, delta / |r|)); one that does not lower the
  objective is not taken, and the next is more damped.

  Returns: the parameters and the objective of each start.
  """
  theta = theta.copy()
  counts = np.broadcast_to(counts, (len(theta), len(x)))
  damping, idle = np.full(len(theta), 1e-2), np.zeros(len(theta), int)
  log_loss, shares = predicted(theta, x, y)
  residuals = log_loss - target
  value = huber(residuals, counts)
  for _ in range(steps):
    (i,) = np.nonzero(idle < PATIENCE)
    if not len(i):
      break
    r, (pa, pb, pe) = residuals[i], shares[:, i]
    jacobian = np.stack([pa, pb, pe, -pa * x, -pb * y], -1)
    weights = counts[i] * DELTA / np.maximum(abs(r), DELTA)
    weighted = jacobian * weights[..., None]
    hessian = np.einsum("kni,knj->kij", weighted, jacobian)
    gradient = np.einsum("kni,kn->ki", weighted, r)
    diagonal = np.einsum("kii->ki", hessian)
    ridge = damping[i, None] * np.maximum(diagonal, 1e-12) + 1e-14
    hessian += ridge[..., None] * np.eye(5)
    step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
    tried = theta[i] - step
    log_loss, new_shares = predicted(tried, x, y)
    new_value = huber(log_loss - target, counts[i])
    better = new_value < value[i]
    gained = value[i] - new_value > GAIN * value[i]
    idle[i] = np.where(gained, 0, idle[i] + 1)
    damping[i] = np.clip(damping[i] * np.where(better, 0.2, 4), 1e-12, 1e12)
    j = i[better]
    theta[j], value[j] = tried[better], new_value[better]
    residuals[j] = log_loss[better] - target
    shares[:, j] = new_shares[:, better]
  return theta, value
