"""Attention against loops in float64 and against jax.nn."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core

from ablax.kernels.dispatch import dispatch
from ablax.kernels.flash_attention import xla
from ablax.kernels.flash_attention.reference import attention

PROVES = (
  "mixer:attention",
  "feature:blockwise_attention",
)

B, T, S, N, K, H = 2, 7, 11, 6, 2, 5

# Two runs of blocks of three, and one that is left over.
FORMS = {
  "reference": attention,
  "xla": functools.partial(xla.attention, block=3),
}


@pytest.fixture(params=FORMS)
def attend(request):
  return FORMS[request.param]


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
def test_each_form_is_the_definition(attend, causal, q_offset, packed):
  q, k, v = qkv()
  ids = {}
  if packed:
    ids = {"q": segments(S)[:, q_offset : q_offset + T], "k": segments(S)}
  got = attend(
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


def test_bfloat16_is_near_the_definition(attend):
  q, k, v = qkv(jnp.bfloat16)
  got = attend(q, k, v, causal=True)
  assert got.dtype == jnp.bfloat16
  # Scores, probabilities and the output have 8 bits each.
  np.testing.assert_allclose(
    got.astype(np.float32), by_loops(q, k, v, causal=True), rtol=0, atol=0.03
  )


@pytest.mark.parametrize("block", [6, 16])
def test_bfloat16_gradients_are_near_those_in_float32(block):
  """In one program, with several blocks and with a lone one."""

  @functools.partial(jax.jit, static_argnums=0)
  def grads(attend, *qkv):
    def loss(*qkv):
      return jnp.sum(attend(*qkv, causal=True).astype(jnp.float32) ** 2)

    return jax.grad(loss, argnums=(0, 1, 2))(*qkv)

  keys = jax.random.split(jax.random.key(0), 3)
  shapes = (2, 16, 4, 8), (2, 16, 2, 8), (2, 16, 2, 8)
  inputs = [
    jax.random.normal(key, shape, jnp.bfloat16)
    for key, shape in zip(keys, shapes, strict=True)
  ]
  blockwise = functools.partial(xla.attention, block=block)
  wanted = grads(attention, *(a.astype(jnp.float32) for a in inputs))
  for got, want in zip(grads(blockwise, *inputs), wanted, strict=True):
    assert got.dtype == jnp.bfloat16
    # Products of probabilities and cotangents of 8 bits each, some ten of them.
    error = np.abs(got.astype(np.float32) - want).max()
    assert error <= 0.04 * np.abs(want).max()


def test_grouped_queries_are_repeated_keys(attend):
  q, k, v = qkv()
  many = (jnp.repeat(a, N // K, axis=2) for a in (k, v))
  np.testing.assert_allclose(
    attend(q, k, v, causal=True),
    attend(q, *many, causal=True),
    rtol=0,
    atol=1e-6,  # fp32: sums in another order.
  )


def test_an_offset_may_be_traced(attend):
  q, k, v = qkv()
  traced = jax.jit(lambda n: attend(q, k, v, causal=True, q_offset=n))
  for n in (0, 4):
    np.testing.assert_allclose(
      traced(n), attend(q, k, v, causal=True, q_offset=n), rtol=0, atol=1e-6
    )  # fp32: a fused sum in another order.


def test_a_query_that_sees_no_key_gives_zeros_and_finite_gradients(attend):
  q, k, v = qkv()
  q_segments = segments(T).at[0].set(9)  # no key has it

  def total(q, k, v):
    out = attend(
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
def test_gradients_are_those_of_jax_nn(attend, causal):
  q, k, v = qkv(length=S)

  def total(function, causal_key):
    def loss(*args):
      return jnp.sin(function(*args, **{causal_key: causal})).sum()

    return jax.grad(loss, argnums=(0, 1, 2))(q, k, v)

  ours = total(attend, "causal")
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


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("block", "length"), [(3, 61), (4, 64), (64, 33)])
def test_blocks_of_any_size_equal_the_reference(causal, block, length):
  keys = jax.random.split(jax.random.key(1), 4)
  q = jax.random.normal(keys[0], (B, length, N, H))
  k, v = (jax.random.normal(key, (B, length, K, H)) for key in keys[1:3])
  borders = jax.random.bernoulli(keys[3], 0.1, (B, length))
  ids = jnp.cumsum(borders, axis=1)  # the first piece is padding

  def run(function):
    def loss(q, k, v):
      out = function(
        q, k, v, causal=causal, q_segments_BT=ids, k_segments_BS=ids
      )
      return jnp.sin(out).sum(), out

    return jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))(q, k, v)

  got = run(functools.partial(xla.attention, block=block))
  for a, b in zip(*map(jax.tree.leaves, (got, run(attention))), strict=True):
    # fp32: sums of up to 64 terms of size 1 in another order.
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


def shapes_in(jaxpr):
  for eqn in jaxpr.eqns:
    for var in eqn.outvars:
      yield getattr(var.aval, "shape", ())
    for inner in core.jaxprs_in_params(eqn.params):
      yield from shapes_in(inner)


def test_the_blockwise_form_never_holds_all_scores():
  length = 640

  def loss(function):
    q = jnp.ones((1, length, N, H))
    k = jnp.ones((1, length, K, H))
    return jax.make_jaxpr(
      jax.grad(lambda q: function(q, k, k, causal=True).sum())
    )(q)

  blockwise = loss(functools.partial(xla.attention, block=16))
  n = max(map(np.prod, shapes_in(blockwise.jaxpr)))
  assert n <= N * length * max(16, H)
  n = max(map(np.prod, shapes_in(loss(attention).jaxpr)))
  assert n >= N * length**2


def test_blocks_that_no_query_of_a_run_may_see_are_not_computed():
  static = xla._Static(True, 0)
  runs = list(xla._runs(static, 1000, 1000, 10))
  assert sum(run.n * run.size for run in runs) == 1000
  scores = sum(run.n * run.size * run.n_keys for run in runs)
  assert 0.5 < scores / 1000**2 < 0.5 + 1 / 15
  assert all(
    run.n_keys == 1000
    for run in xla._runs(xla._Static(False, 0), 1000, 1000, 10)
  )


def test_recomputing_a_layer_leaves_attention_out(model_config):
  from ablax.models.lm import apply, init

  def exponentials(remat):
    config = model_config(remat=remat, ffn="mlp", position="none")
    params = init(config, jax.random.key(0))
    tokens = jnp.ones((1, 8), jnp.int32)

    def loss(params):
      return apply(config, params, tokens).hidden_BTD.sum()

    text = str(jax.make_jaxpr(jax.grad(loss))(params))
    return text.count(" exp ")

  # Forward and backward make the probabilities once each; "full" makes those
  # of the forward pass again.
  assert exponentials("dots") == exponentials("none")
  assert exponentials("full") == exponentials("none") + 1


def test_a_map_of_scores_is_refused_by_the_blockwise_form():
  q, k, v = qkv()
  with pytest.raises(NotImplementedError, match="takes no map of scores"):
    xla.attention(q, k, v, causal=True, scores=lambda s: s)
