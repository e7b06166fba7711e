"""Attention against loops in float64 and against jax.nn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ablax.kernels.dispatch import dispatch
from ablax.kernels.flash_attention.reference import attention

PROVES = ("mixer:attention",)

B, T, S, N, K, H = 2, 7, 11, 6, 2, 5


def qkv(dtype=jnp.float32, length=T):
  keys = jax.random.split(jax.random.key(0), 3)
  q = jax.random.normal(keys[0], (B, length, N, H), dtype)
  k = jax.random.normal(keys[1], (B, S, K, H), dtype)
  v = jax.random.normal(keys[2], (B, S, K, H), dtype)
  return q, k, v


def segments(length):
  """Three documents and padding, otherwise cut in each row."""
  rows = [[1] * 3 + [2] * 4 + [3] * 2 + [0] * 2, [0] + [1] * 9 + [2]]
  return jnp.array(rows)[:, :length]


def by_loops(q, k, v, *, causal, q_offset=0, q_segments=None, k_segments=None):
  """One query and head at a time, over the keys that it sees."""
  q, k, v = (np.asarray(a, np.float64) for a in (q, k, v))
  out = np.zeros(q.shape)
  for b, t, n in np.ndindex(*q.shape[:3]):
    seen = [
      s
      for s in range(k.shape[1])
      if (not causal or s <= t + q_offset)
      and (
        q_segments is None
        or (q_segments[b, t] == k_segments[b, s] and k_segments[b, s] > 0)
      )
    ]
    if not seen:
      continue
    head = n // (q.shape[2] // k.shape[2])
    scores = k[b, seen, head] @ q[b, t, n] / H**0.5
    p = np.exp(scores - scores.max())
    out[b, t, n] = p / p.sum() @ v[b, seen, head]
  return out


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("q_offset", [0, 4])
@pytest.mark.parametrize("packed", [True, False])
def test_the_reference_is_the_definition(causal, q_offset, packed):
  q, k, v = qkv()
  ids = {}
  if packed:
    ids = {"q": segments(S)[:, q_offset : q_offset + T], "k": segments(S)}
  got = attention(
    q,
    k,
    v,
    causal=causal,
    q_offset=q_offset,
    q_segments_BT=ids.get("q"),
    k_segments_BS=ids.get("k"),
  )
  want = by_loops(
    q,
    k,
    v,
    causal=causal,
    q_offset=q_offset,
    q_segments=ids.get("q"),
    k_segments=ids.get("k"),
  )
  # fp32: some ten roundings of numbers of size 1.
  np.testing.assert_allclose(got, want, rtol=0, atol=2e-6)


def test_bfloat16_is_near_the_definition():
  q, k, v = qkv(jnp.bfloat16)
  got = attention(q, k, v, causal=True)
  assert got.dtype == jnp.bfloat16
  # Scores, probabilities and the output have 8 bits each.
  np.testing.assert_allclose(
    got.astype(np.float32), by_loops(q, k, v, causal=True), rtol=0, atol=0.03
  )


def test_grouped_queries_are_repeated_keys():
  q, k, v = qkv()
  many = (jnp.repeat(a, N // K, axis=2) for a in (k, v))
  np.testing.assert_allclose(
    attention(q, k, v, causal=True),
    attention(q, *many, causal=True),
    rtol=0,
    atol=1e-6,  # fp32: sums in another order.
  )


def test_an_offset_may_be_traced():
  q, k, v = qkv()
  traced = jax.jit(lambda n: attention(q, k, v, causal=True, q_offset=n))
  for n in (0, 4):
    np.testing.assert_allclose(
      traced(n), attention(q, k, v, causal=True, q_offset=n), rtol=0, atol=1e-6
    )  # fp32: a fused sum in another order.


def test_a_query_that_sees_no_key_gives_zeros_and_finite_gradients():
  q, k, v = qkv()
  q_segments = segments(T).at[0].set(9)  # no key has it

  def total(q, k, v):
    out = attention(
      q,
      k,
      v,
      causal=True,
      q_segments_BT=q_segments,
      k_segments_BS=segments(S),
    )
    return jnp.square(out).sum() + out.sum(), out

  grads, out = jax.grad(total, argnums=(0, 1, 2), has_aux=True)(q, k, v)
  assert not out[0].any() and out[1, 1:].all()
  for grad in grads:
    assert np.isfinite(grad).all() and not grad[0].any() and grad[1].any()


@pytest.mark.parametrize("causal", [True, False])
def test_gradients_are_those_of_jax_nn(causal):
  q, k, v = qkv(length=S)

  def total(function, causal_key):
    def loss(*args):
      return jnp.sin(function(*args, **{causal_key: causal})).sum()

    return jax.grad(loss, argnums=(0, 1, 2))(q, k, v)

  ours = total(attention, "causal")
  theirs = total(jax.nn.dot_product_attention, "is_causal")
  for a, b in zip(ours, theirs, strict=True):
    # fp32: sums of 11 terms of size 1 in another order.
    np.testing.assert_allclose(a, b, rtol=0, atol=5e-6)


def test_the_map_of_scores_acts_before_the_mask():
  q, k, v = qkv()
  mapped = attention(q, k, v, causal=True, scores=lambda s: s * 0 + 7.0)
  # Equal scores: the mean of the values so far. fp32: one division.
  mean = jnp.cumsum(v, axis=1) / jnp.arange(1, S + 1)[:, None, None]
  mean = jnp.repeat(mean[:, :T], N // K, axis=2)
  np.testing.assert_allclose(mapped, mean, rtol=0, atol=1e-6)


def test_a_missing_implementation_is_named():
  assert dispatch("flash_attention", "reference") is attention
  with pytest.raises(
    NotImplementedError, match=r"'pallas_interpret': flash_attention has no"
  ):
    dispatch("flash_attention", "pallas_interpret")
