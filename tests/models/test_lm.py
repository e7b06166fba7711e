"""The decoder: what may influence what, and what must change nothing."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ablax.errors import UserError
from ablax.models.block import REMAT
from ablax.models.config import RESIDUALS
from ablax.models.context import Context, DropoutKey, dropout
from ablax.models.lm import apply, depths, init, param_specs
from ablax.models.param import path_of
from ablax.models.state import init_state, state_bytes
from ablax.parallel.rules import RULES

PROVES = (
  "feature:post_norm",
  "feature:sandwich_norm",
  "feature:parallel_block",
  "feature:tied_embeddings",
  "feature:soft_cap",
  "feature:dropout",
  "feature:remat",
  "feature:bfloat16",
)

T = 19
# fp32 sums in another order: about 1e-6 on logits of size 1.
ROUNDING = {"rtol": 0, "atol": 1e-5}


@functools.partial(jax.jit, static_argnums=0)
def logits_of(config, params, tokens, positions=None, segments=None, key=None):
  output = apply(config, params, tokens, positions, segments, dropout_key=key)
  return output.logits()


@functools.partial(jax.jit, static_argnums=0)
def step(config, params, state, tokens, positions, segments):
  output = apply(config, params, tokens, positions, segments, state)
  return output.logits(), output.state


@functools.partial(jax.jit, static_argnums=0)
def loss_and_grad(config, params, tokens, key=None):
  def loss(params):
    output = apply(config, params, tokens[:, :-1], dropout_key=key)
    targets = tokens[:, 1:]
    return output.cross_entropy(targets, jnp.ones(targets.shape))[0]

  return jax.value_and_grad(loss)(params)


@functools.cache
def params_of(config):
  return init(config, jax.random.key(0))


@pytest.fixture
def config(model_config):
  # Untied: the logits of an untrained model are about N(0, 1).
  return model_config(tie_embeddings=False)


@pytest.fixture
def tokens():
  return jax.random.randint(jax.random.key(5), (2, T), 0, 53)


def mean_square(tree):
  return sum(jnp.square(a).mean() for a in jax.tree.leaves(tree))


def test_no_gradient_flows_from_the_past_to_the_future(config):
  params = params_of(config)
  tokens = jnp.arange(T)[None]  # distinct: a row of the table is a slot

  def outputs_T(table):
    logits = apply(config, {**params, "embedding": table}, tokens).logits()
    return jnp.square(logits[0]).sum(-1)

  jacobian_TVD = jax.jit(jax.jacrev(outputs_T))(params["embedding"])
  depends_TT = np.asarray((jacobian_TVD[:, :T] != 0).any(-1))
  np.testing.assert_array_equal(depends_TT, np.tri(T, dtype=bool))


@pytest.mark.parametrize("t", [0, 7, T - 1])
def test_future_tokens_do_not_change_the_past(config, tokens, t):
  changed = tokens.at[:, t:].add(1) % 53
  before, after = (
    logits_of(config, params_of(config), x) for x in (tokens, changed)
  )
  np.testing.assert_array_equal(before[:, :t], after[:, :t])
  assert (before[:, t] != after[:, t]).any()


def packed(lengths):
  """Positions and segments of documents side by side, then padding."""
  positions, segments = np.zeros((2, 1, T), np.int32)
  start, spans = 0, []
  for i, n in enumerate(lengths, start=1):
    spans.append(slice(start, start + n))
    positions[:, spans[-1]], segments[:, spans[-1]] = np.arange(n), i
    start += n
  return jnp.array(positions), jnp.array(segments), spans


def test_packed_documents_have_the_logits_of_each_alone(config, tokens):
  positions, segments, spans = packed((5, 1, 9))
  params, row = params_of(config), tokens[:1]
  together = logits_of(config, params, row, positions, segments)
  for span in spans:
    alone = logits_of(config, params, row[:, span])
    np.testing.assert_allclose(together[:, span], alone, **ROUNDING)


def test_a_packed_document_does_not_see_the_one_before(config, tokens):
  positions, segments, (first, second) = packed((7, 8))
  row = tokens[:1]
  changed = row.at[:, first].add(1) % 53
  before, after = (
    logits_of(config, params_of(config), x, positions, segments)
    for x in (row, changed)
  )
  np.testing.assert_array_equal(before[:, second], after[:, second])


def test_what_padding_holds_changes_nothing(config, tokens):
  positions, segments, (span,) = packed((12,))
  row = tokens[:1]
  changed = row.at[:, 12:].add(1) % 53
  before, after = (
    logits_of(config, params_of(config), x, positions, segments)
    for x in (row, changed)
  )
  np.testing.assert_array_equal(before[:, span], after[:, span])
  assert np.isfinite(before).all()


@pytest.mark.parametrize(
  "chunks", [(T,), (7, 5, 4, 3), (1,) * T], ids=["full", "chunked", "single"]
)
@pytest.mark.parametrize("padding", [0, 3])
def test_a_state_continues_as_if_there_was_no_border(
  config, tokens, chunks, padding
):
  params = params_of(config)
  want = logits_of(config, params, tokens[:, padding:])
  positions = jnp.maximum(jnp.arange(T) - padding, 0)[None].repeat(2, 0)
  segments = (jnp.arange(T) >= padding).astype(jnp.int32)[None].repeat(2, 0)
  state, start, got = init_state(config, 2, T + 4), 0, []
  for n in chunks:
    span = slice(start, start + n)
    chunk = (a[:, span] for a in (tokens, positions, segments))
    logits, state = step(config, params, state, *chunk)
    got.append(logits)
    start += n
  got = jnp.concatenate(got, axis=1)[:, padding:]
  np.testing.assert_allclose(got, want, **ROUNDING)


def test_a_state_keeps_the_positions_that_scores_need(model_config, tokens):
  config = model_config(position="alibi", tie_embeddings=False)
  test_a_state_continues_as_if_there_was_no_border(
    config, tokens, (7, 5, 4, 3), 3
  )


def test_state_bytes_are_those_of_the_state(config):
  state = init_state(config, 3, 11)
  assert state_bytes(config, 3, 11) == sum(
    a.nbytes for a in jax.tree.leaves(state)
  )


def test_a_tiled_pattern_with_a_rest_is_the_same_layers(model_config, tokens):
  shape = {"n_layers": 5, "tie_embeddings": False, "dropout": 0.3}
  tiled = model_config(pattern=("attention",) * 2, **shape)
  plain = model_config(**shape)
  assert [g[2] for g in tiled.groups] == [2, 1]
  params = params_of(tiled)
  groups, tail = params["groups"], params["tail"]
  layers = [
    jax.tree.map(lambda a, i=i: a[i], groups[j]) for i in (0, 1) for j in "01"
  ]
  layers.append(jax.tree.map(lambda a: a[0], tail["0"]))
  stacked = jax.tree.map(lambda *a: jnp.stack(a), *layers)
  rest = {k: v for k, v in params.items() if k not in ("groups", "tail")}
  # With dropout: its masks know the layer.
  key = DropoutKey(jnp.uint32(3), jnp.arange(2))
  np.testing.assert_allclose(
    logits_of(tiled, params, tokens, key=key),
    logits_of(plain, {**rest, "groups": {"0": stacked}}, tokens, key=key),
    **ROUNDING,
  )


def test_first_layers_and_an_ffn_of_their_own(model_config, tokens):
  """first, tile and rest: layers in this order, each with its own ffn."""
  config = model_config(
    n_layers=6, first=("attention/mlp",) * 2, pattern=("attention",) * 3
  )
  assert [(g[0], len(g[1]), g[2]) for g in config.groups] == [
    ("first", 2, 1),
    ("groups", 3, 1),
    ("tail", 1, 1),
  ]
  assert config.ffns == ("mlp", "glu")
  params = params_of(config)
  assert [set(params["first"][i]["ffn"]) for i in "01"] == [{"up", "down"}] * 2
  assert set(params["groups"]["0"]["ffn"]) == {"gate", "up", "down"}
  found = depths(param_specs(config))
  at = [found[g][i]["ffn"]["down"]["kernel"] for g, i in FIRST_LAYERS]
  assert [int(a[0]) for a in at] == [1, 2, 3, 4, 5, 6]
  # In the order of the depth: without the last, what it adds is gone.
  short = dataclasses.replace(config, n_layers=5)
  params = {**params, "tail": jax.tree.map(jnp.zeros_like, params["tail"])}
  np.testing.assert_allclose(
    logits_of(config, params, tokens),
    logits_of(short, {k: v for k, v in params.items() if k != "tail"}, tokens),
    **ROUNDING,
  )


FIRST_LAYERS = [
  ("first", "0"),
  ("first", "1"),
  ("groups", "0"),
  ("groups", "1"),
  ("groups", "2"),
  ("tail", "0"),
]


def assert_same_gradients(config, other, tokens):
  params = params_of(config)
  one, two = (loss_and_grad(c, params, tokens) for c in (config, other))
  # Relative to the largest entry, as a sum's rounding is.
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(
      a, b, rtol=0, atol=2e-6 * float(jnp.abs(a).max())
    ),
    one,
    two,
  )


@pytest.mark.parametrize("n", [2, 3, 8])
def test_unrolling_the_layer_loop_changes_nothing(model_config, tokens, n):
  shape = {"n_layers": 3, "tie_embeddings": False}
  one, two = (model_config(scan_unroll=k, **shape) for k in (1, n))
  assert_same_gradients(one, two, tokens)


@pytest.mark.parametrize("policy", [p for p in REMAT if p != "none"])
def test_what_is_computed_again_gives_the_same_gradients(
  model_config, tokens, policy
):
  one, two = (
    model_config(remat=p, tie_embeddings=False) for p in ("none", policy)
  )
  assert_same_gradients(one, two, tokens)


def test_residual_wirings_differ_and_train(model_config, tokens):
  losses = []
  for residual in RESIDUALS:
    config = model_config(residual=residual, tie_embeddings=False)
    loss, grads = loss_and_grad(config, params_of(config), tokens)
    losses.append(float(loss))
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
      assert np.isfinite(grad).all() and grad.any(), path_of(path)
  # With norms as they start, `parallel_norms` is still `parallel`.
  assert len(set(losses)) == len(RESIDUALS) - 1


@pytest.mark.parametrize(
  "other",
  [
    {"ffn": "mlp", "norm": "layer_norm", "use_bias": True},
    {"position": "none", "head_dim": 5},
  ],
)
def test_each_word_gives_a_model_that_trains(model_config, tokens, other):
  config = model_config(tie_embeddings=False, **other)
  _, grads = loss_and_grad(config, params_of(config), tokens)
  for path, grad in jax.tree_util.tree_leaves_with_path(grads):
    # softmax(q (k + b)) does not depend on b: its gradient is zero but for
    # rounding where nothing rotates it.
    assert np.isfinite(grad).all() and grad.any(), path_of(path)


def test_bfloat16_is_near_float32(model_config, tokens):
  shape = {"tie_embeddings": False}
  fp32, bf16 = (
    model_config(compute_dtype=d, **shape) for d in ("float32", "bfloat16")
  )
  params = params_of(fp32)
  want, got = (logits_of(c, params, tokens) for c in (fp32, bf16))
  assert got.dtype == jnp.float32
  # 8 bits of mantissa: 4e-3 a rounding, some ten of them on logits N(0, 1).
  assert 0 < jnp.sqrt(jnp.square(got - want).mean()) < 0.02


def test_parameters_stay_in_their_own_precision(model_config):
  config = model_config(param_dtype="bfloat16")
  dtypes = {a.dtype for a in jax.tree.leaves(params_of(config))}
  assert dtypes == {jnp.dtype("bfloat16")}


def test_a_tied_output_matrix_is_the_embedding(model_config, tokens):
  tied, untied = (model_config(tie_embeddings=t) for t in (True, False))
  assert params_of(untied).keys() - params_of(tied).keys() == {"unembedding"}
  params = params_of(tied)
  np.testing.assert_array_equal(
    logits_of(tied, params, tokens),
    logits_of(untied, {**params, "unembedding": params["embedding"]}, tokens),
  )


def test_the_soft_cap_bounds_logits_and_loss(model_config, tokens):
  shape = {"tie_embeddings": False, "init_scale": 4.0}
  free, capped = (model_config(logits_soft_cap=x, **shape) for x in (0.0, 2.0))
  params = params_of(free)
  raw, bounded = (logits_of(c, params, tokens) for c in (free, capped))
  assert jnp.abs(raw).max() > 5
  np.testing.assert_allclose(bounded, 2 * np.tanh(raw / 2), **ROUNDING)
  logprobs = jax.nn.log_softmax(bounded[:, :-1])
  picked = jnp.take_along_axis(logprobs, tokens[:, 1:, None], -1)
  # A sum of 36 terms of size 4.
  loss, _ = loss_and_grad(capped, params, tokens)
  assert float(loss) == pytest.approx(-float(picked.sum()), rel=1e-5)


@pytest.mark.parametrize("shape", [{}, {"embed_rank": 8}])
def test_a_bias_of_the_logits_is_in_the_loss_and_learns(
  model_config, tokens, shape
):
  plain, biased = (model_config(output_bias=x, **shape) for x in (False, True))
  params = params_of(plain)
  bias_V = jax.random.normal(jax.random.key(5), (plain.vocab_size,))
  with_bias = {**params, "output_bias": bias_V}
  raw = logits_of(plain, params, tokens)
  logits = logits_of(biased, with_bias, tokens)
  np.testing.assert_allclose(logits, raw + bias_V, **ROUNDING)
  logprobs = jax.nn.log_softmax(logits[:, :-1])
  picked = jnp.take_along_axis(logprobs, tokens[:, 1:, None], -1)
  loss, grads = loss_and_grad(biased, with_bias, tokens)
  assert float(loss) == pytest.approx(-float(picked.sum()), rel=1e-5)
  # d loss / d bias = sum over positions of p - onehot(target).
  targets = jax.nn.one_hot(tokens[:, 1:], plain.vocab_size)
  want = (jnp.exp(logprobs) - targets).sum((0, 1))
  np.testing.assert_allclose(grads["output_bias"], want, rtol=0, atol=1e-4)
  hidden = apply(biased, with_bias, tokens).hidden_BTD
  np.testing.assert_array_equal(hidden, apply(plain, params, tokens).hidden_BTD)


def mask(rate=0.3, seed=1, examples=(0, 1, 2, 3), layer=0, site=0, length=T):
  """Which of [B, T, 24] ones are kept."""
  key = DropoutKey(jnp.uint32(seed), jnp.array(examples))
  x = jnp.ones((len(examples), length, 24))
  ctx = Context(jnp.zeros(x.shape[:2], jnp.int32), dropout=key, layer=layer)
  return np.asarray(dropout(x, rate, ctx, site))


def test_microbatches_see_the_dropout_of_the_whole_batch(model_config):
  config = model_config(dropout=0.4, tie_embeddings=False)
  params = params_of(config)
  tokens = jax.random.randint(jax.random.key(6), (4, T), 0, 53)
  seed = jnp.uint32(9)
  whole = logits_of(config, params, tokens, key=DropoutKey(seed, jnp.arange(4)))
  for rows in ([0, 1], [2, 3], [3, 0]):
    rows = jnp.array(rows)
    part = logits_of(config, params, tokens[rows], key=DropoutKey(seed, rows))
    np.testing.assert_allclose(part, whole[rows], **ROUNDING)


@pytest.mark.parametrize(
  "change", [{"seed": 2}, {"layer": 1}, {"site": 1}, {"examples": (4, 5, 6, 7)}]
)
def test_dropout_masks_are_independent(change):
  n = mask().size
  both = ((mask() > 0) & (mask(**change) > 0)).mean()
  # Independent: 0.7^2, within 5 standard deviations.
  assert both == pytest.approx(0.49, abs=5 * (0.49 * 0.51 / n) ** 0.5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_dropout_is_independent_along_each_axis(axis):
  kept = mask(examples=range(40)) > 0
  n = kept.shape[axis]
  both = np.take(kept, range(n - 1), axis) & np.take(kept, range(1, n), axis)
  sigma = (0.49 * 0.51 / both.size) ** 0.5
  # Neighbouring pairs share members: the variance is not twice that.
  assert both.mean() == pytest.approx(0.49, abs=5 * 2**0.5 * sigma)


@pytest.mark.parametrize("rate", [0.01, 0.5, 0.9])
def test_dropout_honours_its_rate_and_keeps_the_mean(rate):
  values = mask(rate, examples=range(40))
  kept, n = values > 0, values.size
  sigma = (rate * (1 - rate) / n) ** 0.5
  assert kept.mean() == pytest.approx(1 - rate, abs=5 * sigma)
  np.testing.assert_allclose(values[kept], 1 / (1 - rate), rtol=1e-6)


def test_dropout_does_not_depend_on_the_length_of_the_row():
  np.testing.assert_array_equal(mask()[:, :7], mask(length=7))


def test_dropout_is_off_without_a_key(model_config, tokens):
  on, off = (
    model_config(dropout=rate, tie_embeddings=False) for rate in (0.5, 0.0)
  )
  params = params_of(on)
  np.testing.assert_array_equal(
    logits_of(on, params, tokens), logits_of(off, params, tokens)
  )


@pytest.mark.parametrize("rules", RULES)
def test_every_parameter_has_its_axes_in_every_rules_table(model_config, rules):
  for words in (
    {"tie_embeddings": False, "use_bias": True},
    {"ffn": "mlp", "norm": "layer_norm", "residual": "sandwich"},
  ):
    for spec in jax.tree.leaves(param_specs(model_config(**words))):
      assert len(spec.axes) == len(spec.shape)
      assert set(spec.axes) <= RULES[rules].params.keys()


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"n_heads": 5}, r"n_heads=5 is not a multiple of model\.n_kv_heads=2"),
    (
      {"d_model": 25, "n_kv_heads": 4},
      r"d_model=25 is not a multiple of model\.n_heads=4.*head_dim",
    ),
    ({"n_layers": 0}, "n_layers=0 must be at least 1"),
    ({"ff_dim": -1}, "ff_dim=-1 must be positive"),
    ({"pattern": ()}, "names no mixer"),
    ({"first": ("attention",) * 3}, "names 3 layers, and model.n_layers=2"),
    ({"dropout": 1.0}, r"dropout=1.0 must be in \[0, 1\)"),
    ({"residual": "prr"}, "residual='prr' is not one of.*did you mean 'pre'"),
    ({"norm": "rmsnorm"}, "did you mean 'rms_norm'"),
    ({"remat": "some"}, "remat='some' is not one of none"),
    ({"compute_dtype": "float8"}, "compute_dtype='float8' is not one of"),
    ({"implementation": "palas"}, "did you mean 'pallas'"),
    ({"mixer": "atention"}, "did you mean 'attention'"),
    ({"position": "ropee"}, "did you mean 'rope'"),
    ({"ffn": "gluu"}, "did you mean 'glu'"),
    ({"opts": {"glu.activation": "silo"}}, "did you mean 'silu'"),
  ],
)
def test_a_model_without_meaning_is_refused(model_config, change, message):
  with pytest.raises(UserError, match=message):
    model_config(**change)


def test_an_odd_head_can_not_be_rotated(model_config):
  with pytest.raises(UserError, match=r"5 of model\.head_dim=5 dimensions"):
    model_config(head_dim=5)


def test_a_frequent_token_has_its_whole_gradient_in_bfloat16(model_config):
  """A sum of thousands in bf16 stops growing at 256 times a term."""
  grads = {}
  for dtype in ("float32", "bfloat16"):
    config = model_config(compute_dtype=dtype, tie_embeddings=False)
    params = init(config, jax.random.key(0))
    tokens = jnp.full((40, 96), 7, jnp.int32)

    def total(params, config=config, tokens=tokens):
      output = apply(config, params, tokens)
      return output.hidden_BTD.astype(jnp.float32)[..., 0].sum()

    grads[dtype] = jax.jit(jax.grad(total))(params)["embedding"][7]
  full, half = grads["float32"], grads["bfloat16"]
  # bf16 has 2^-8, through two layers.
  assert jnp.abs(full - half).max() < 0.1 * jnp.abs(full).max()
