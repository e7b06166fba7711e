"""Drawn tokens: distributed as softmax says, whatever the cut."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ablax.models.gumbel import gumbel_argmax

B, T, D, V = 5, 7, 4, 11
SEED = jnp.uint32(3)


def inputs(B=B, T=T):
  x, w = jax.random.split(jax.random.key(0))
  return jax.random.normal(x, (B, T, D)), jax.random.normal(w, (V, D))


def draw(x, w, ids, **options):
  return np.asarray(gumbel_argmax(x, w, SEED, jnp.asarray(ids), **options))


@pytest.mark.parametrize("soft_cap", [0.0, 0.7])
def test_frequencies_are_those_of_softmax(soft_cap):
  n = 20_000
  x, w = inputs(1, 2)
  got = draw(jnp.broadcast_to(x, (n, 2, D)), w, np.arange(n), soft_cap=soft_cap)
  logits = np.einsum("td,vd->tv", x[0], w).astype(np.float64)
  if soft_cap:
    logits = soft_cap * np.tanh(logits / soft_cap)
  want = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  for slot in range(2):
    seen = np.bincount(got[:, slot], minlength=V)
    expected = n * want[slot]
    chi2 = ((seen - expected) ** 2 / expected).sum()
    # Of V - 1 = 10 degrees of freedom: above 35.6 once in 10^4; seeded.
    assert chi2 < 35.6


def test_neither_microbatches_nor_chunks_nor_order_change_a_draw():
  x, w = inputs()
  ids = np.array([4, 9, 2, 7, 0])
  whole = draw(x, w, ids)
  assert whole.shape == (B, T) and whole.dtype == np.int32
  for chunk in (1, 3, 7, 100):
    np.testing.assert_array_equal(draw(x, w, ids, chunk=chunk), whole)
  order = np.array([3, 0, 2])
  np.testing.assert_array_equal(draw(x[order], w, ids[order]), whole[order])


def test_examples_slots_and_seeds_draw_on_their_own():
  # Equal logits: with one noise all of these would be equal.
  x, w = jnp.zeros((50, 20, D)), jnp.zeros((V, D))
  a = draw(x, w, np.arange(50))
  other = np.asarray(
    gumbel_argmax(x, w, jnp.uint32(4), jnp.asarray(np.arange(50)))
  )
  for one, two in ((a[1:], a[:-1]), (a[:, 1:], a[:, :-1]), (a, other)):
    # 1 / V, with a standard deviation of about 0.01.
    assert abs((one == two).mean() - 1 / V) < 0.05


def test_no_gradient_flows_and_logits_are_made_a_chunk_at_a_time():
  x, w = inputs()
  run = functools.partial(gumbel_argmax, seed=SEED, chunk=2)
  ids = jnp.arange(B)
  text = str(jax.make_jaxpr(lambda x, w: run(x, w, example_ids_B=ids))(x, w))
  assert f"f32[{B},2,{V}]" in text and f"f32[{B},{T},{V}]" not in text
  assert f"f32[{B},8,{V}]" not in text

  def through(x):
    return run(x, w, example_ids_B=ids).astype(jnp.float32).sum()

  assert not np.asarray(jax.grad(through)(x)).any()
