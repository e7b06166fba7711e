"""Attention against loops in float64 and against jax.nn."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core

from ablax.kernels.dispatch import dispatch
from ablax.kernels.flash_attention import Pairs, blocks, merge, xla
from ablax.kernels.flash_attention.blocks import Static
from ablax.kernels.flash_attention.reference import attention

PROVES = (
  "mixer:attention",
  "feature:blockwise_attention",
)
AGAINST = "float64 loops"

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


def test_the_map_of_scores_acts_before_the_mask(attend):
  q, k, v = qkv()
  sevens = Pairs(lambda s, of_queries, of_keys, shared: s * 0 + 7.0)
  mapped = attend(q, k, v, causal=True, scores=sevens)
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


def static(**given):
  usual = Static(True, 0, 0, 0.0, 10, 0)
  return usual._replace(**given)


def test_blocks_that_no_query_of_a_run_may_see_are_not_computed():
  found = list(blocks.runs(static(), 1000, 1000))
  assert sum(run.n * run.size for run in found) == 1000
  scores = sum(run.n * run.size * run.span for run in found)
  assert 0.5 < scores / 1000**2 < 0.5 + 1 / 15
  whole = blocks.runs(static(causal=False), 1000, 1000)
  assert all(run.span == 1000 for run in whole)


@pytest.mark.parametrize("causal", [True, False])
def test_a_window_costs_its_width(causal):
  sides = 1 if causal else 2
  found = blocks.runs(static(causal=causal, window=30), 1000, 1000)
  assert {run.span for run in found} == {10 + sides * 29}


def test_recomputing_a_layer_leaves_attention_out(model_config):
  from ablax.models.lm import apply, init

  def exponentials(remat, of=jax.grad):
    config = model_config(remat=remat, ffn="mlp", position="none")
    params = init(config, jax.random.key(0))
    tokens = jnp.ones((1, 8), jnp.int32)

    def loss(params):
      return apply(config, params, tokens).hidden_BTD.sum()

    return str(jax.make_jaxpr(of(loss))(params)).count(" exp ")

  # Forward and backward make the probabilities; "full" makes those of the
  # forward pass again.
  forward = exponentials("none", of=lambda loss: loss)
  assert forward
  assert exponentials("dots") == exponentials("none")
  assert exponentials("full") == exponentials("none") + forward


# Flags of which each pair of values stands in one of the rows: an orthogonal
# array of eight rows for up to seven flags of two values.
FLAGS = ("causal", "window", "offset", "packed", "mask", "scores", "more")
ROWS = [
  tuple(bool(bin(row & column).count("1") % 2) for column in range(1, 8))
  for row in range(8)
]


def test_the_rows_have_every_pair_of_flags():
  for a, b in itertools.combinations(range(len(FLAGS)), 2):
    assert len({(row[a], row[b]) for row in ROWS}) == 4


def near_or_third(q, k, shared):
  """Distances below two, and each third; the second half of heads all."""
  ago = q[0][:, :, None] - k[0][:, None, :]
  seen = ((ago < 2) & (ago > -2)) | (ago % 3 == 0)
  return seen[:, None] | (jnp.arange(N) >= N // 2)[:, None, None]


def by_table_and_content(s, q, k, shared):
  """A bias of the distance, by head, and one of learned vectors."""
  ago = q[0][:, :, None] - k[0][:, None, :]
  of_pairs = jnp.einsum("BTC,BSC->BTS", q[1], k[1])[:, None]
  return s + jnp.moveaxis(shared[0][ago + S], 3, 1) + of_pairs


def case(flags, length):
  """Inputs with gradients, and a function of (form, inputs)."""
  on = dict(zip(FLAGS, flags, strict=True))
  keys = jax.random.split(jax.random.key(5), 7)
  offset = 4 if on["offset"] else 0
  inputs = {
    "q": jax.random.normal(keys[0], (B, length, N, H)),
    "k": jax.random.normal(keys[1], (B, S, K, H)),
    "v": jax.random.normal(keys[2], (B, S, K, 3)),  # of another width
    "sinks": jax.random.normal(keys[3], (N,)),
    "table": jax.random.normal(keys[4], (2 * S, N)),
    "of_q": jax.random.normal(keys[5], (B, length, 2)),
    "of_k": jax.random.normal(keys[6], (B, S, 2)),
  }
  at = jnp.arange(length)[None] + offset, jnp.arange(S)[None]
  given = {"causal": on["causal"], "window": 3 * on["window"]}
  given["q_offset"] = offset
  if on["packed"]:
    ids = segments(S)
    given["q_segments_BT"] = ids[:, offset : offset + length]
    given["k_segments_BS"] = ids
  if on["mask"]:
    given["mask"] = Pairs(near_or_third, (at[0],), (at[1],))
  if on["more"]:
    given |= {"soft_cap": 1.5, "scale": 0.7}

  def run(form, i):
    now = dict(given)
    if on["scores"]:
      of_pairs = (at[0], i["of_q"]), (at[1], i["of_k"]), (i["table"],)
      now["scores"] = Pairs(by_table_and_content, *of_pairs)
    if on["more"]:
      now["sinks_N"] = i["sinks"]
    return form(i["q"], i["k"], i["v"], return_lse=True, **now)

  return inputs, run


@functools.cache
def loss_and_grads(form, flags, dtype=jnp.float32):
  """Of inputs in bfloat16, computed in `dtype`."""
  inputs, run = case(flags, T)
  half = jax.tree.map(lambda a: a.astype(jnp.bfloat16), inputs)
  inputs |= {name: half[name].astype(dtype) for name in "qkv"}

  @jax.jit
  def grads(inputs):
    def loss(inputs):
      o, lse = run(form, inputs)
      # A query that sees nothing has no logsumexp to speak of.
      lse = jnp.where(lse > -1e20, lse, 0)
      return jnp.sin(o.astype(jnp.float32)).sum() + jnp.cos(lse).sum(), (o, lse)

    return jax.grad(loss, has_aux=True)(inputs)

  return grads(inputs)


SMALL_BLOCKS = functools.partial(xla.attention, block=3, tile=4)


@pytest.mark.parametrize("flags", ROWS)
def test_flags_in_pairs_equal_the_reference(flags):
  got = loss_and_grads(SMALL_BLOCKS, flags)
  want = loss_and_grads(attention, flags)
  for a, b in zip(*map(jax.tree.leaves, (got, want)), strict=True):
    # fp32: sums of some ten terms of size 1 in another order.
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


@pytest.mark.parametrize("i", range(len(FLAGS)))
def test_each_flag_changes_the_output(i):
  flags = tuple(j == i for j in range(len(FLAGS)))
  off = (False,) * len(FLAGS)
  _, (with_it, _) = loss_and_grads(SMALL_BLOCKS, flags)
  _, (without, _) = loss_and_grads(SMALL_BLOCKS, off)
  assert i == FLAGS.index("offset") or np.abs(with_it - without).max() > 0.01


def test_an_offset_changes_what_is_causal():
  flags = dict.fromkeys(FLAGS, False) | {"causal": True}
  _, (without, _) = loss_and_grads(SMALL_BLOCKS, tuple(flags.values()))
  flags["offset"] = True
  _, (with_it, _) = loss_and_grads(SMALL_BLOCKS, tuple(flags.values()))
  assert np.abs(with_it - without).max() > 0.01


def test_all_flags_in_bfloat16():
  flags = (True,) * len(FLAGS)
  got = loss_and_grads(SMALL_BLOCKS, flags, jnp.bfloat16)
  want = loss_and_grads(attention, flags)
  for a, b in zip(*map(jax.tree.leaves, (got, want)), strict=True):
    # Some ten products of 8 bits each, and a cap whose slope is at most 1.
    a = a.astype(np.float32)
    np.testing.assert_allclose(a, b, rtol=0, atol=0.05 * np.abs(b).max() + 0.01)


def test_the_features_of_the_reference_are_the_definition():
  """Window, mask, map, cap, scale and sink, one query and head at a time."""
  flags = (True, True, True, True, True, True, True)
  inputs, run = case(flags, T)
  got, lse = run(attention, inputs)
  i = {name: np.asarray(a, np.float64) for name, a in inputs.items()}
  ids = np.asarray(segments(S))
  for b, t, n in np.ndindex(B, T, N):
    scores, values = [i["sinks"][n]], [np.zeros(3)]
    for s in range(S):
      ago = t + 4 - s
      near = ago < 2 or ago % 3 == 0 or n >= N // 2
      same = ids[b, s] == ids[b, t + 4] and ids[b, s] != 0
      if 0 <= ago < 3 and near and same:
        score = 0.7 * i["q"][b, t, n] @ i["k"][b, s, n // (N // K)]
        score = 1.5 * np.tanh(score / 1.5) + i["table"][ago + S, n]
        scores.append(score + i["of_q"][b, t] @ i["of_k"][b, s])
        values.append(i["v"][b, s, n // (N // K)])
    p = np.exp(scores)
    want = (p / p.sum()) @ np.array(values)
    # fp32: some ten roundings of numbers of size 1.
    np.testing.assert_allclose(got[b, t, n], want, rtol=0, atol=3e-6)
    np.testing.assert_allclose(lse[b, t, n], np.log(p.sum()), rtol=0, atol=3e-6)


def test_parts_of_the_keys_merge():
  q, k, v = qkv()
  parts = [
    attention(q, k[:, part], v[:, part], causal=False, return_lse=True)
    for part in (slice(0, 4), slice(4, S))
  ]
  whole = attention(q, k, v, causal=False, return_lse=True)
  for a, b in zip(merge(*parts[0], *parts[1]), whole, strict=True):
    np.testing.assert_allclose(a, b, rtol=0, atol=2e-6)  # fp32: another order


def test_tiles_that_no_query_sees_are_not_computed():
  """NaN there would reach the output, and the gradients."""
  length = 64
  keys = jax.random.split(jax.random.key(0), 3)
  q, k, v = (jax.random.normal(key, (1, length, 2, H)) for key in keys)
  far = jnp.arange(length) < 32  # keys that only the first queries see
  k = jnp.where(far[None, :, None, None], jnp.nan, k)
  at = (jnp.arange(length)[None],)
  late = Pairs(lambda q, k, shared: (k[0] >= 32)[:, None, None], at, at)

  def loss(q, v):
    out = xla.attention(q, k, v, causal=True, mask=late, block=8, tile=8)
    return out[:, 32:].sum()

  for grad in jax.jit(jax.grad(loss, argnums=(0, 1)))(q, v):
    assert np.isfinite(grad[:, 32:]).all() and grad[:, 32:].any()
