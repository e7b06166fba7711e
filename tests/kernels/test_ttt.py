"""TTT-Linear's inner loop: float64 mini-batches, gradients, documents."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ablax.kernels.ttt import EPS, Learner, State, reference, xla

B, N, K, V = 2, 3, 5, 4


def drawn(T, Q, length=9.0, seed=0):
  """Documents of some `length` on average; the first one goes on."""
  rng = np.random.default_rng(seed)
  q, k = rng.normal(size=(2, B, T, N, K))
  v = rng.normal(size=(B, T, N, V))
  rate = rng.uniform(0.1, 0.5, size=(B, T, N))
  starts = rng.random((B, T)) < 1 / length
  place, at = np.zeros((B, T), np.int32), rng.integers(0, Q, B)
  for t in range(T):
    place[:, t] = at = np.where(starts[:, t], 0, at % Q)
    at = at + 1
  weights = rng.normal(size=(N, K, V))
  scale, bias = 1 + 0.3 * rng.normal(size=(2, N, V))
  share = 1 / np.arange(1, Q + 1) + 0.1 * rng.uniform(size=Q)
  moved, total = 0.5 * rng.normal(size=(2, B, N, K, V))
  learner = Learner(*(a.astype("f") for a in (weights, scale, bias, share)))
  state = State(moved.astype("f"), total.astype("f"))
  floats = [a.astype("f") for a in (q, k, v, rate)]
  return [*floats, place, starts, learner, state]


def gradient(z, v, scale, bias):
  """Of |LN(z) - v|^2 / 2, by the norm's Jacobian."""
  root = np.sqrt(z.var() + EPS)
  y = (z - z.mean()) / root
  jacobian = (np.eye(V) - 1 / V - np.outer(y, y) / V) / root
  return jacobian @ (scale * (scale * y + bias - v))


def loop(q, k, v, rate, place, starts, learner, state):
  """A mini-batch at a time, as the paper has it: its gradients, then each W."""
  o = np.zeros(v.shape)
  last = State(*(np.zeros(a.shape) for a in state))
  T, Q = v.shape[1], len(learner.share_Q)
  q, k, v, rate = (a.astype(np.float64) for a in (q, k, v, rate))
  learner = Learner(*(a.astype(np.float64) for a in learner))
  for i, n in np.ndindex(B, N):
    W0, scale, bias = (a[n] for a in learner[:3])
    U = W = W0 + state.moved_BNKV[i, n]
    total = state.sum_BNKV[i, n].astype(np.float64)
    if place[i, 0] == 0:  # the state is of a mini-batch that is over
      W = U - learner.share_Q[-1] * total
    t = 0
    while t < T:
      if place[i, t] == 0:
        U, total = W0 if starts[i, t] else W, 0
      end = t + 1
      while end < T and place[i, end] and not starts[i, end]:
        end += 1
      assert end - t <= Q
      grads = [
        np.outer(y, rate[i, s, n] * gradient(y @ U, v[i, s, n], scale, bias))
        for s, y in zip(range(t, end), k[i, t:end, n], strict=True)
      ]
      for s in range(t, end):
        total = total + grads[s - t]
        W = U - learner.share_Q[place[i, s]] * total
        z = q[i, s, n] @ W
        o[i, s, n] = scale * (z - z.mean()) / np.sqrt(z.var() + EPS) + bias
      t = end
    last.moved_BNKV[i, n], last.sum_BNKV[i, n] = U - W0, total
  return o, last


def loss(run, *args):
  o, state = run(*args)
  return jnp.sin(o).sum() + sum(jnp.cos(a).sum() for a in state)


FORMS = {"reference": jax.jit(reference.ttt), "xla": jax.jit(xla.ttt)}
FLOATS = (0, 1, 2, 3, 6, 7)
GRADS = {
  name: jax.jit(jax.grad(functools.partial(loss, form), FLOATS))
  for name, form in FORMS.items()
}


def close(got, want, tolerance=1e-5):
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
    # fp32: weights add up over the row, and a norm divides; relative to the
    # largest.
    scale = max(1.0, float(np.abs(np.asarray(b)).max()))
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("length", [2.0, 9.0, 1e9])
@pytest.mark.parametrize(("T", "Q"), [(1, 4), (3, 16), (37, 4), (41, 16)])
def test_both_forms_are_the_mini_batches(T, Q, length):
  args = drawn(T, Q, length)
  want = loop(*args)
  close(FORMS["reference"](*args), want)
  close(FORMS["xla"](*args), want)


@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
def test_the_chunk_changes_nothing(chunk):
  """Mini-batches end anywhere in chunks that are shorter than they."""
  args = drawn(41, 7)
  run = functools.partial(xla.ttt, chunk=chunk)
  close(jax.jit(run)(*args), FORMS["reference"](*args))


@pytest.mark.parametrize("length", [3.0, 1e9])
def test_gradients_are_those_of_the_reference(length):
  """Those of the learner and of the state too."""
  args = drawn(29, 6, length)
  # A norm's gradient of a gradient: over its root three times.
  close(GRADS["xla"](*args), GRADS["reference"](*args), 1e-4)


@pytest.mark.parametrize(
  "cuts", [range(24), (0, 1, 5, 23), (0, 16, 17, 23), (0, 22, 23)]
)
def test_a_row_in_parts_is_the_row(cuts):
  *arrays, learner, state = drawn(23, 5, length=6.0)
  want = FORMS["xla"](*arrays, learner, state)
  outputs = []
  for start, end in itertools.pairwise(cuts):
    part = [a[:, start:end] for a in arrays]
    o, state = FORMS["xla"](*part, learner, state)
    outputs.append(o)
  close((jnp.concatenate(outputs, axis=1), state), want)


def test_whole_mini_batches_are_the_dual_form():
  """One document from its first token: equations of section 2.5."""
  Q, T = 4, 12
  q, k, v, rate, _, _, learner, state = drawn(T, Q)
  place = np.broadcast_to(np.arange(T) % Q, (B, T)).astype(np.int32)
  starts = np.broadcast_to(np.arange(T) == 0, (B, T))
  got, _ = FORMS["xla"](q, k, v, rate, place, starts, learner, state)
  W0, scale, bias, share = (a.astype(np.float64) for a in learner)
  lower = np.tril(np.ones((Q, Q)))
  for i, n in np.ndindex(B, N):
    W = W0[n]
    for t in range(0, T, Q):
      x, y, target = (a[i, t : t + Q, n] for a in (q, k, v))
      eta = share[:, None] * rate[i, None, t : t + Q, n] * lower
      g = [
        gradient(z, a, scale[n], bias[n])
        for z, a in zip(y @ W, target, strict=True)
      ]
      z = x @ W - (eta * (x @ y.T)) @ g
      W = W - (eta[-1][:, None] * y).T @ g
      z -= z.mean(-1, keepdims=True)
      z /= np.sqrt(np.square(z).mean(-1, keepdims=True) + EPS)
      close(got[i, t : t + Q, n], scale[n] * z + bias[n])


@pytest.mark.parametrize("size", [0.0, 1e-4, 1e4])
@pytest.mark.parametrize("rates", [(0.0,), (1e-9, 0.2, 100.0)])
def test_extremes_are_right_and_have_gradients(rates, size):
  """Inputs that are all 0 too, whose norm divides by the root of EPS."""
  q, k, v, rate, *rest = drawn(40, 8)
  rate = np.random.default_rng(1).choice(np.float32(rates), rate.shape)
  q, k = np.float32(size) * q, np.float32(size) * k
  args = q, k, v, rate, *rest
  o, state = FORMS["xla"](*args)
  assert np.isfinite(o).all() and np.isfinite(state.moved_BNKV).all()
  want, _ = loop(*args)
  if size <= 1 and max(rates) <= 1:  # else chaotic: finite is all
    np.testing.assert_allclose(o, want, rtol=0, atol=1e-4)
  for grad in jax.tree.leaves(GRADS["xla"](*args)):
    assert np.isfinite(grad).all()
