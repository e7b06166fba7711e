"""Scans of single numbers: float64 loops, gradients, chunks, documents."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ablax.kernels.diagonal_scan import reference, xla
from ablax.kernels.selective_scan import reference as selective_reference
from ablax.kernels.selective_scan import xla as selective_xla

B, E, N = 2, 5, 3


def drawn(T, imaginary=False):
  rng = np.random.default_rng(0)
  a = rng.uniform(size=(B, T, E, N)).astype(np.float32)
  b = rng.normal(size=(B, T, E, N)).astype(np.float32)
  if imaginary:
    a = a * np.exp(1j * b).astype(np.complex64)
  state = rng.normal(size=(B, E, N)).astype(a.dtype)
  return a, b.astype(a.dtype), rng.random((B, T)) < 0.1, state


def selective(T):
  rng = np.random.default_rng(1)
  x, dt = rng.normal(size=(2, B, T, E))
  dt = np.log1p(np.exp(dt))
  A = -np.exp(rng.normal(size=(E, N)))
  b, c = rng.normal(size=(2, B, T, N))
  state = rng.normal(size=(B, E, N))
  floats = [a.astype(np.float32) for a in (x, dt, A, b, c)]
  return [*floats, rng.random((B, T)) < 0.1, state.astype(np.float32)]


def loop(a, b, starts, state):
  """In float64, a token at a time."""
  exact = np.complex128 if np.iscomplexobj(a) else np.float64
  h, found = state.astype(exact), []
  for t in range(a.shape[1]):
    h = np.where(starts[:, t, None, None], 0, h)
    h = a[:, t].astype(exact) * h + b[:, t]
    found.append(h)
  return np.stack(found, 1), h


def close(got, want):
  for a, b in zip(got, want, strict=True):
    # fp32: sums of some 10 terms in another order, relative to the largest.
    scale = max(1.0, float(np.abs(np.asarray(b)).max()))
    np.testing.assert_allclose(a, b, rtol=0, atol=5e-6 * scale)


@pytest.mark.parametrize("imaginary", [False, True])
@pytest.mark.parametrize(("T", "chunk"), [(1, 64), (41, 8), (41, 64), (41, 1)])
def test_both_forms_are_the_recurrence(T, chunk, imaginary):
  args = drawn(T, imaginary)
  want = loop(*args)
  close(jax.jit(reference.diagonal_scan)(*args), want)
  run = functools.partial(xla.diagonal_scan, chunk=chunk)
  close(jax.jit(run)(*args), want)


@pytest.mark.parametrize(("T", "chunk"), [(1, 64), (41, 8), (41, 64), (41, 1)])
def test_both_forms_are_the_selective_scan(T, chunk):
  args = selective(T)
  x, dt, A, b, c, starts, state = args
  a = np.exp(dt[..., None].astype(np.float64) * A)
  new = (dt * x)[..., None] * b[:, :, None]
  h, last = loop(a, new, starts, state)
  want = np.einsum("BTEN,BTN->BTE", h, c), last
  close(jax.jit(selective_reference.selective_scan)(*args), want)
  run = functools.partial(selective_xla.selective_scan, chunk=chunk)
  close(jax.jit(run)(*args), want)


@pytest.mark.parametrize("op", ["diagonal", "selective"])
def test_gradients_are_those_of_the_recurrence(op):
  if op == "diagonal":
    args, floats = drawn(29), (0, 1, 3)
    forms = reference.diagonal_scan, xla.diagonal_scan
  else:
    args, floats = selective(29), (0, 1, 2, 3, 4, 6)
    forms = selective_reference.selective_scan, selective_xla.selective_scan

  def loss(run, *args):
    y, state = run(*args)
    return jnp.sin(y).sum() + jnp.cos(state).sum()

  exact, ours = forms
  want = jax.jit(jax.grad(functools.partial(loss, exact), floats))(*args)
  ours = functools.partial(ours, chunk=8)
  got = jax.jit(jax.grad(functools.partial(loss, ours), floats))(*args)
  close(got, want)


def test_extreme_decays_are_right_and_have_gradients():
  _, b, starts, state = drawn(40)
  a = np.random.default_rng(2).choice(np.float32([0, 1, 1e-30]), b.shape)
  close(
    jax.jit(xla.diagonal_scan)(a, b, starts, state), loop(a, b, starts, state)
  )
  run = jax.grad(lambda *x: jnp.square(xla.diagonal_scan(*x)[0]).sum(), (0, 1))
  for grad in jax.jit(run)(a, b, starts, state):
    assert np.isfinite(grad).all()
