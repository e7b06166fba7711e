"""Linear scan and delta rule by chunks: float64 loops, gradients, extremes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ablax.errors import UserError
from ablax.kernels.delta_rule import reference as delta_reference
from ablax.kernels.delta_rule import xla as delta_xla
from ablax.kernels.delta_rule.inverse import inverse
from ablax.kernels.linear_scan import reference, xla
from ablax.models.mixers.rwkv7 import STRONGEST

B, N, K, V = 2, 4, 6, 5

# fp32 against float64: sums of some 100 terms, relative to the largest.
TOLERANCE = 1e-5


def drawn(T, decay="channel", groups=N, strength=1.0, seed=0):
  """q, k, v, g, starts and state; a document begins here and there."""
  rng = np.random.default_rng(seed)
  normal = functools.partial(rng.normal, size=None)
  q, k = (normal(size=(B, T, groups, K)) for _ in range(2))
  v = normal(size=(B, T, N, V))
  width = {"channel": K, "head": 1}[decay]
  g = -strength * rng.exponential(size=(B, T, N, width))
  starts = rng.random((B, T)) < 0.07
  state = normal(size=(B, N, K, V))
  floats = [a.astype(np.float32) for a in (q, k, v, g)]
  return [*floats, starts, state.astype(np.float32)]


def loop(q, k, v, g, starts, state, bonus=None, a=None, b=None):
  """The recurrences as they are written, a head and a token at a time."""
  exact = [np.asarray(x, np.float64) for x in (q, k, v, g, state)]
  q, k, v, g, state = exact
  q, k = (np.repeat(x, N // x.shape[2], axis=2) for x in (q, k))
  o, last = np.zeros(v.shape), np.zeros(state.shape)
  for i, n in np.ndindex(B, N):
    S = state[i, n]
    for t in range(v.shape[1]):
      if starts[i, t]:
        S = np.zeros_like(S)
      new = np.outer(k[i, t, n], v[i, t, n])
      before = S
      S = np.exp(g[i, t, n])[:, None] * S + new
      if a is not None:
        S = S + np.outer(b[i, t, n], a[i, t, n]).astype(np.float64) @ before
      seen = S
      if bonus is not None:
        seen = before + bonus[n][:, None] * new
      o[i, t, n] = q[i, t, n] @ seen
    last[i, n] = S
  return o, last


def close(got, want):
  for a, b in zip(got, want, strict=True):
    b = np.asarray(b)
    scale = max(1.0, float(np.abs(b).max()))
    np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE * scale)


def with_delta(T, decay, **more):
  """As `drawn`, with keys of length 1, and what they remove."""
  q, k, v, g, starts, state = drawn(T, decay, **more)
  k /= np.linalg.norm(k, axis=-1, keepdims=True)
  beta = np.random.default_rng(5).uniform(size=(*k.shape[:3], 1))
  return q, k, v, g, -k, (k * beta).astype(np.float32), starts, state


@pytest.mark.parametrize("decay", ["channel", "head"])
@pytest.mark.parametrize("bonus", [False, True])
def test_both_forms_are_the_recurrence(decay, bonus):
  args = drawn(75, decay)
  u = np.random.default_rng(1).normal(size=(N, K)).astype(np.float32)
  u = u if bonus else None
  want = loop(*args, bonus=u)
  close(jax.jit(reference.linear_scan)(*args, u), want)
  run = functools.partial(xla.linear_scan, chunk=32)
  close(jax.jit(run)(*args, u), want)


@pytest.mark.parametrize("decay", ["channel", "head"])
def test_both_forms_are_the_delta_rule(decay):
  args = with_delta(75, decay)
  q, k, v, g, a, b, starts, state = args
  want = loop(q, k, v, g, starts, state, a=a, b=b)
  close(jax.jit(delta_reference.delta_rule)(*args), want)
  run = functools.partial(delta_xla.delta_rule, chunk=32)
  close(jax.jit(run)(*args), want)


@pytest.mark.parametrize("decay", ["channel", "head"])
def test_a_group_of_q_and_k_serves_several_heads(decay):
  args = drawn(40, decay, groups=2)
  want = loop(*args)
  close(jax.jit(reference.linear_scan)(*args), want)
  close(jax.jit(xla.linear_scan)(*args), want)


@pytest.mark.parametrize("chunk", [1, 3, 16, 17, 64, 200])
@pytest.mark.parametrize("T", [1, 33])
def test_the_chunk_changes_nothing(T, chunk):
  args = drawn(T)
  want = jax.jit(reference.linear_scan)(*args)
  run = functools.partial(xla.linear_scan, chunk=chunk)
  close(jax.jit(run)(*args), want)
  args = with_delta(T, "channel")
  want = jax.jit(delta_reference.delta_rule)(*args)
  run = functools.partial(delta_xla.delta_rule, chunk=chunk)
  close(jax.jit(run)(*args), want)


def test_a_chunk_of_no_tokens_is_refused():
  for run, args in (
    (xla.linear_scan, drawn(5)),
    (delta_xla.delta_rule, with_delta(5, "channel")),
  ):
    with pytest.raises(UserError, match="chunk=0 must be at least 1"):
      jax.jit(functools.partial(run, chunk=0))(*args)


@pytest.mark.parametrize("decay", ["channel", "head"])
@pytest.mark.parametrize("op", ["linear_scan", "bonus", "delta_rule"])
def test_gradients_are_those_of_the_recurrence(op, decay):
  if op == "delta_rule":
    args = with_delta(41, decay)
    forms = delta_reference.delta_rule, delta_xla.delta_rule
    floats = (0, 1, 2, 3, 4, 5, 7)
  else:
    args = drawn(41, decay)
    forms = reference.linear_scan, xla.linear_scan
    floats = (0, 1, 2, 3, 5)
    if op == "bonus":
      args.append(np.random.default_rng(1).normal(size=(N, K)).astype("f"))
      floats += (6,)

  def loss(run, *args):
    o, state = run(*args)
    return jnp.sin(o).sum() + jnp.cos(state).sum()

  exact, ours = forms
  want = jax.jit(jax.grad(functools.partial(loss, exact), floats))(*args)
  ours = functools.partial(ours, chunk=18)
  got = jax.jit(jax.grad(functools.partial(loss, ours), floats))(*args)
  close(got, want)


@pytest.mark.parametrize("weakest", [0.0, 1.0])
def test_decays_that_are_bounded_need_no_blocks(weakest):
  """Of a whole chunk at the strongest, exp(-38), and at less."""
  q, k, v, _, a, b, starts, state = with_delta(150, "channel")
  share = np.random.default_rng(3).uniform(weakest, 1, q.shape)
  g = np.float32(-STRONGEST * share)
  want = loop(q, k, v, g, starts, state, a=a, b=b)
  args = (q, k, v, g, a, b, starts, state)
  run = functools.partial(delta_xla.delta_rule, least=-STRONGEST)
  close(jax.jit(run)(*args), want)

  def grads(form):
    def loss(*args):
      o, state = form(*args)
      return jnp.sin(o).sum() + jnp.cos(state).sum()

    return jax.jit(jax.grad(loss, (0, 1, 2, 3, 4, 5, 7)))(*args)

  close(grads(run), grads(delta_reference.delta_rule))


@pytest.mark.parametrize("decay", ["channel", "head"])
@pytest.mark.parametrize(
  "gates", [(0.0,), (-1e4,), (-1e-9,), (0.0, -1e4, -1e-9, -19.0)]
)
def test_extreme_gates_are_right_and_have_gradients(decay, gates):
  q, k, v, g, starts, state = drawn(70, decay)
  g = np.random.default_rng(2).choice(np.float32(gates), g.shape)
  want = loop(q, k, v, g, starts, state)
  # Sums of logs reach 1,280 in a chunk; fp32 has them to 1e-4.
  atol = 2e-4 * np.abs(want[0]).max()
  got, _ = jax.jit(xla.linear_scan)(q, k, v, g, starts, state)
  np.testing.assert_allclose(got, want[0], rtol=0, atol=atol)
  run = jax.grad(lambda *a: jnp.square(xla.linear_scan(*a)[0]).sum(), (0, 3))
  for grad in jax.jit(run)(q, k, v, g, starts, state):
    assert np.isfinite(grad).all()


@pytest.mark.parametrize("decay", ["channel", "head"])
def test_a_decay_of_nothing_has_a_whole_gradient(decay):
  """Sums that are alike are a tie, of which a minimum gives each side half."""
  q, k, v, g, starts, state = map(jnp.asarray, drawn(70, decay))
  g = np.where(np.random.default_rng(4).random(g.shape) < 0.8, 0, g)

  def loss(run, g):
    return jnp.sin(run(q, k, v, g, starts, state)[0]).sum()

  want, got = (
    jax.jit(jax.grad(functools.partial(loss, form)))(jnp.float32(g))
    for form in (reference.linear_scan, xla.linear_scan)
  )
  close([got], [want])


@pytest.mark.parametrize("C", [1, 3, 16, 33, 64])
def test_the_inverse_is_that_of_a_triangle(C):
  """Of keys that are all alike too, where a series of powers would fail."""
  rng = np.random.default_rng(0)
  A = np.stack([rng.normal(size=(C, C)) / 4, -np.ones((C, C))])[None]
  want = np.linalg.inv(np.eye(C) - np.tril(A, -1))
  got = jax.jit(inverse)(A.astype(np.float32))
  # fp32: products of up to 64 terms, relative to the largest.
  atol = 1e-5 * np.abs(want).max((2, 3), keepdims=True)
  assert (np.abs(got - want) <= atol).all()

  def loss(invert, A):
    return jnp.sin(invert(A)).sum()

  def plain(A):
    return jnp.linalg.inv(jnp.eye(C) - jnp.tril(A, -1))

  A = jnp.asarray(A / 4, jnp.float32)
  got, want = (
    jax.jit(jax.grad(functools.partial(loss, form)))(A)
    for form in (inverse, plain)
  )
  np.testing.assert_allclose(
    got, want, rtol=0, atol=2e-5 * max(1, float(jnp.abs(want).max()))
  )


def test_tokens_one_at_a_time_are_the_row():
  args = drawn(23)
  want = jax.jit(reference.linear_scan)(*args)
  step = jax.jit(xla.linear_scan)
  *arrays, state = args
  outputs = []
  for t in range(23):
    o, state = step(*(a[:, t : t + 1] for a in arrays), state)
    outputs.append(o)
  close((jnp.concatenate(outputs, axis=1), state), want)


@pytest.mark.slow  # 4,096 steps
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_4096_tokens_one_at_a_time_do_not_drift(dtype):
  """Inputs of bf16 are cast: what is kept between tokens is fp32."""
  T = 4096
  *arrays, state = drawn(T, strength=0.01)
  arrays = [a if a.dtype == bool else a.astype(dtype) for a in arrays]
  want = jax.jit(xla.linear_scan)(*arrays, state)
  cut = [jnp.moveaxis(a, 1, 0)[:, :, None] for a in arrays]

  @jax.jit
  def run(state, cut):
    def step(state, token):
      o, state = xla.linear_scan(*token, state)
      return state, o[:, 0]

    return jax.lax.scan(step, state, cut)

  last, o_TBNV = run(state, cut)
  # fp32: thousands of sums in another order, of states of size 10.
  for got, wanted in ((jnp.moveaxis(o_TBNV, 0, 1), want[0]), (last, want[1])):
    scale = float(jnp.abs(wanted).max())
    np.testing.assert_allclose(got, wanted, rtol=0, atol=3e-5 * scale)
