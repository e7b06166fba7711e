"""Long convolutions: float64 loops, gradients, lengths, documents, slots."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ablax.kernels.long_conv import halves, heads, reference, xla

B, E, N, K, V = 2, 5, 3, 4, 2

# What halves are computed by: options of the channels' form and of the heads'.
FORMS = {
  "products": ({"near": 10**9}, {"transform": 10**9}),
  "both": ({"near": 8}, {"transform": 22}),  # these up to 8 slots
  "transforms": ({"near": 0}, {"transform": 0}),
}


def documents(T, kind="random", seed=0):
  """Where they begin; many have one token."""
  rng = np.random.default_rng(seed)
  share = {"random": 0.1, "short": 0.8, "tokens": 1.0, "one": 0.0}[kind]
  return jnp.asarray(rng.random((B, T)) < share)


def drawn(T, seed=0):
  """u and h of channels."""
  rng = np.random.default_rng(seed)
  u, h = rng.normal(size=(B, T, E)), rng.normal(size=(T, E))
  return [u.astype(np.float32), h.astype(np.float32)]


def drawn_heads(T, seed=0):
  """q, k, v and h of heads."""
  rng = np.random.default_rng(seed)
  q, k, v = (rng.normal(size=(B, T, N, size)) for size in (K, K, V))
  h = rng.normal(size=(T, N))
  return [a.astype(np.float32) for a in (q, k, v, h)]


def loop(u, h, starts):
  """The sum as it is written, in float64, with axes of u that h has not."""
  u, h = u.astype(np.float64), h.astype(np.float64)
  y = np.zeros(u.shape)
  h = h.reshape(*h.shape, *[1] * (u.ndim - h.ndim - 1))
  for b, t in np.ndindex(u.shape[:2]):
    first = max([s for s in range(t + 1) if starts[b, s]], default=0)
    for s in range(first, t + 1):
      y[b, t] += h[t - s] * u[b, s]
  return y


def loop_heads(q, k, v, h, starts):
  """Convolves the outer products, and contracts."""
  q, k, v = (a.astype(np.float64) for a in (q, k, v))
  sums = loop(k[..., :, None] * v[..., None, :], h, starts)
  return np.einsum("BTNKV,BTNK->BTNV", sums, q)


def close(got, want):
  # fp32: sums of some 100 terms, relative to the largest.
  scale = max(1.0, float(np.abs(want).max()))
  np.testing.assert_allclose(got, want, rtol=0, atol=5e-6 * scale)


def of_channels(form=None):
  return functools.partial(xla.long_conv, **FORMS[form][0] if form else {})


def of_heads(form=None):
  more = FORMS[form][1] if form else {}
  return functools.partial(heads.head_conv, near=4, **more)


@pytest.mark.parametrize("kind", ["random", "short", "tokens", "one"])
@pytest.mark.parametrize("T", [1, 2, 9, 16, 17, 31, 64, 75])
def test_both_forms_are_the_sum(T, kind):
  (u, h), starts = drawn(T), documents(T, kind)
  want = loop(u, h, starts)
  close(jax.jit(reference.long_conv)(u, h, starts), want)
  run = jax.jit(of_channels())
  close(run(u, h, starts), want)
  if kind == "one":
    close(jax.jit(reference.long_conv)(u, h), want)
    close(run(u, h), want)


@pytest.mark.parametrize("form", FORMS)
def test_what_a_half_is_computed_by_changes_nothing(form):
  T = 75
  (u, h), starts = drawn(T), documents(T)
  close(jax.jit(of_channels(form))(u, h, starts), loop(u, h, starts))
  args = drawn_heads(T)
  got = jax.jit(of_heads(form))(*args, starts)
  close(got, loop_heads(*args, starts))


@pytest.mark.parametrize("kind", ["random", "short", "tokens", "one"])
@pytest.mark.parametrize("T", [1, 9, 31, 64])
def test_both_forms_are_the_sum_of_heads(T, kind):
  args, starts = drawn_heads(T), documents(T, kind)
  want = loop_heads(*args, starts)
  close(jax.jit(reference.head_conv)(*args, starts), want)
  run = jax.jit(of_heads())
  close(run(*args, starts), want)
  if kind == "one":
    close(run(*args), want)


def test_a_half_may_have_several_tiles(monkeypatch):
  monkeypatch.setattr(heads, "TILE", 8)
  args, starts = drawn_heads(75), documents(75)
  got = jax.jit(of_heads("products"))(*args, starts)
  close(got, loop_heads(*args, starts))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["random", None])
def test_gradients_are_those_of_the_sum(kind, form):
  T = 41
  starts = None if kind is None else documents(T, kind)

  def compare(exact, ours, args):
    args[-1] /= 8  # filters, so that sums are about 1 and the sine is no noise

    def loss(run, *args):
      return jnp.sin(run(*args, starts)).sum()

    floats = tuple(range(len(args)))
    want, got = (
      jax.jit(jax.grad(functools.partial(loss, run), floats))(*args)
      for run in (exact, ours)
    )
    for a, b in zip(got, want, strict=True):
      close(a, b)

  compare(reference.long_conv, of_channels(form), drawn(T))
  compare(reference.head_conv, of_heads(form), drawn_heads(T))


@pytest.mark.parametrize("form", FORMS)
def test_other_documents_leave_nothing(form):
  """Not even the rounding of inputs that are huge."""
  T = 75
  starts = jnp.zeros((B, T), bool).at[:, jnp.array([20, 47])].set(True)
  inside = np.s_[:, 20:47]

  def same(run, args, cut):
    huge = [a.copy() for a in args]
    for a, of_row in zip(huge, cut, strict=True):
      if of_row:
        a[:, :20] *= 1e15
        a[:, 47:] *= 1e15

    @jax.jit
    def value_and_grad(*args):
      def loss(*args):
        y = run(*args, starts)[inside]
        return jnp.sin(y).sum(), y

      return jax.value_and_grad(loss, tuple(range(len(args))), True)(*args)

    (_, want), want_grads = value_and_grad(*args)
    (_, got), got_grads = value_and_grad(*huge)
    np.testing.assert_array_equal(got, want)
    for a, b, of_row in zip(got_grads, want_grads, cut, strict=True):
      np.testing.assert_array_equal(a, b)
      if of_row:
        assert not np.delete(a, np.s_[20:47], axis=1).any()

  same(of_channels(form), drawn(T), (True, False))
  same(of_heads(form), drawn_heads(T), (True, True, True, False))


@pytest.mark.parametrize("form", FORMS)
def test_a_later_token_changes_nothing(form):
  (u, h), starts = drawn(64), documents(64, "one")
  later = u.copy()
  later[:, 40:] *= 1e20
  run = jax.jit(of_channels(form))
  want, got = (run(a, h, starts)[:, :40] for a in (u, later))
  np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("n", [1, xla.FEW, xla.FEW + 5])
def test_slots_in_parts_are_the_row(n):
  """What decoding asks for: some slots' outputs, of all that came before."""
  T = 39
  (u, h), starts = drawn(T), documents(T)
  want = loop(u, h, starts)
  q, k, v, g = drawn_heads(T)
  want_heads = loop_heads(q, k, v, g, starts)
  some = jax.jit(xla.long_conv, static_argnames="length")
  some_heads = jax.jit(of_heads())
  for offset in range(0, T, n):
    offset = min(offset, T - n)
    here = np.s_[:, offset : offset + n]
    # Slots that are not written yet.
    a, b, c = (x.copy() for x in (u, k, v))
    for x in (a, b, c):
      x[:, offset + n :] = 0
    at = jnp.asarray(offset)
    close(some(a, h, starts, at, length=n), want[here])
    close(some_heads(q[here], b, c, g, starts, at), want_heads[here])


@pytest.mark.parametrize(("rows", "M"), [(1, 2), (4, 8), (4, 11), (7, 11)])
def test_a_toeplitz_matrix_has_a_lag_more_in_each_row(rows, M):
  h = np.random.default_rng(0).normal(size=(3, M)).astype(np.float32)
  J = M - rows
  want = [[h[:, J + i - j] for j in range(J)] for i in range(rows)]
  got = halves.toeplitz(jnp.asarray(h), rows)
  np.testing.assert_array_equal(got, np.moveaxis(np.array(want), 2, 0))
