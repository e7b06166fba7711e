"""Chunked linear cross-entropy against the plain one, and that by float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ablax.kernels.cross_entropy import reference, xla
from ablax.kernels.dispatch import dispatch
from ablax.parallel import rules
from ablax.parallel.mesh import MeshConfig, make_mesh

PROVES = (
  "objective:next_token",
  "feature:chunked_cross_entropy",
  "feature:z_loss",
  "feature:label_smoothing",
  "feature:soft_cap",
)

B, T, D, V = 3, 13, 8, 37
OPTIONS = [
  {},
  {"z_loss": 0.3},
  {"label_smoothing": 0.2},
  {"soft_cap": 1.5},
  {"z_loss": 0.1, "label_smoothing": 0.1, "soft_cap": 2.0},
]


def case(dtype=jnp.float32, rows=B):
  keys = jax.random.split(jax.random.key(0), 4)
  x = jax.random.normal(keys[0], (rows, T, D), dtype)
  w = jax.random.normal(keys[1], (V, D), jnp.float32)
  targets = jax.random.randint(keys[2], (rows, T), 0, V)
  weights = jax.random.uniform(keys[3], (rows, T))
  # Masked tokens and a whole masked row.
  return x, w, targets, weights.at[0, 3:6].set(0.0).at[1].set(0.0)


def in_float64(x, w, targets, weights, z_loss, label_smoothing, soft_cap):
  """Token by token, from the definitions: loss, (ce, z, correct)."""
  x, w, weights = (np.asarray(a, np.float64) for a in (x, w, weights))
  loss, sums = 0.0, np.zeros(3)
  for b, t in np.ndindex(*targets.shape):
    logits = w @ x[b, t]
    if soft_cap:
      logits = soft_cap * np.tanh(logits / soft_cap)
    log_z = np.log(np.exp(logits).sum())
    target = np.full(V, label_smoothing / V)
    target[targets[b, t]] += 1 - label_smoothing
    ce = -(target * (logits - log_z)).sum()
    loss += weights[b, t] * (ce + z_loss * log_z**2)
    nll = log_z - logits[targets[b, t]]
    correct = logits.argmax() == targets[b, t]
    sums += weights[b, t] * np.array([nll, log_z**2, correct])
  return loss, sums


@pytest.mark.parametrize("options", OPTIONS)
def test_the_reference_is_the_definition(options):
  args = case()
  loss, sums = reference.linear_cross_entropy(*args, **options)
  defaults = {"z_loss": 0.0, "label_smoothing": 0.0, "soft_cap": 0.0}
  want, want_sums = in_float64(*args, **(defaults | options))
  # A sum of 40 fp32 terms of size 10.
  assert float(loss) == pytest.approx(want, rel=3e-6)
  np.testing.assert_allclose(sums, want_sums, rtol=3e-6)


def test_the_reference_is_that_of_optax():
  x, w, targets, weights = case()
  logits = jnp.einsum("BTD,VD->BTV", x, w)
  losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
  loss, _ = reference.linear_cross_entropy(x, w, targets, weights)
  # A sum of 40 fp32 terms of size 10.
  assert float(loss) == pytest.approx(float((weights * losses).sum()), rel=3e-6)


@functools.cache
def value_and_grad(module, chunk, options):
  def loss(x, w, targets, weights):
    return module.linear_cross_entropy(
      x, w, targets, weights, chunk=chunk, **dict(options)
    )

  return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 3), has_aux=True))


def compare(dtype, chunk, options, tolerance):
  options = tuple(options.items())
  args = case(dtype)
  # The oracle in fp32 on the same numbers, whatever the precision of x.
  exact = (args[0].astype(jnp.float32), *args[1:])
  if dtype != jnp.float32:  # the op casts w to the precision of x
    w = args[1].astype(dtype).astype(jnp.float32)
    exact = (exact[0], w, *exact[2:])
  want = value_and_grad(reference, 0, options)(*exact)
  got = value_and_grad(xla, chunk, options)(*args)
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
    assert a.shape == b.shape
    scale = float(jnp.abs(b).max())
    np.testing.assert_allclose(
      a.astype(np.float32), b, rtol=0, atol=tolerance * scale
    )
  assert got[1][0].dtype == dtype and got[1][1].dtype == jnp.float32


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("chunk", [0, 1, 5, 13, 99])
def test_chunks_of_any_size_equal_the_reference(chunk, options):
  # fp32 sums in another order, relative to the largest entry.
  compare(jnp.float32, chunk, options, 3e-6)


@pytest.mark.parametrize("options", OPTIONS[::4])
def test_bfloat16_equals_the_reference_to_its_rounding(options):
  # Each gradient is rounded to 8 bits twice, as is the logits' cotangent.
  compare(jnp.bfloat16, 5, options, 1.5e-2)


@pytest.mark.parametrize("options", OPTIONS[::4])
def test_float16_equals_the_reference_to_its_rounding(options):
  # As bfloat16, with 11 bits instead of 8.
  compare(jnp.float16, 5, options, 2e-3)


@pytest.mark.parametrize("weight", [1e-7, 1.0, 1e4])
@pytest.mark.parametrize("scale", [2.0**-10, 1.0, 2.0**16])
def test_float16_gradients_hold_at_any_weight_and_scale(weight, scale):
  """Only what no float16 can be is lost: never on the way."""
  x, w, targets, weights = case(jnp.float16)

  def loss(x, weights):
    value, _ = xla.linear_cross_entropy(x, w, targets, weights, chunk=5)
    return value * scale

  grad = jax.jit(jax.grad(loss))
  got = np.asarray(grad(x, weight * weights), np.float64)
  plain = jax.jit(jax.grad(loss))(x.astype(jnp.float32), weights)
  want = weight * np.asarray(plain, np.float64)
  limits = jnp.finfo(jnp.float16)
  fits = np.abs(want) < float(limits.max)
  assert np.isinf(got[~fits]).all()
  # 2^-11 a rounding, and the smallest steps of a float16 near zero.
  step = float(limits.smallest_subnormal)
  bound = 2e-3 * np.abs(want[fits]).max() + step
  assert np.abs(got[fits] - want[fits]).max() <= bound


@pytest.mark.parametrize("module", [reference, xla])
def test_tokens_of_weight_zero_have_no_influence(module):
  x, w, targets, weights = case()
  masked = weights == 0
  run = value_and_grad(module, 5, ())
  other = x.at[masked].multiply(-3.0), w, (targets + masked) % V, weights
  one, two = run(x, w, targets, weights), run(*other)
  np.testing.assert_array_equal(one[0][0], two[0][0])
  np.testing.assert_array_equal(one[1][1], two[1][1])
  assert not np.asarray(two[1][0])[np.asarray(masked)].any()


@pytest.mark.parametrize("module", [reference, xla])
def test_no_weight_at_all_gives_zero(module):
  x, w, targets, weights = case()
  (loss, sums), grads = value_and_grad(module, 5, ())(
    x, w, targets, jnp.zeros_like(weights)
  )
  assert not any(map(float, (loss, *sums)))
  assert not grads[0].any() and not grads[1].any()


@pytest.mark.parametrize("module", [reference, xla])
def test_large_logits_stay_finite(module):
  x, w, targets, weights = case()
  (loss, _), grads = value_and_grad(module, 5, ())(1e4 * x, w, targets, weights)
  assert all(np.isfinite(a).all() for a in jax.tree.leaves((loss, grads)))


def test_no_gradient_flows_through_the_sums():
  x, w, targets, weights = case()

  def total(x):
    sums = xla.linear_cross_entropy(x, w, targets, weights, chunk=5)[1]
    return sum(sums)

  assert not jax.grad(total)(x).any()


def test_a_data_sharded_batch_gives_the_same():
  args = case(rows=8)
  mesh = make_mesh(MeshConfig(4, 2, 1, 1, 1, 1, "fsdp"))
  layout = rules.Layout.of(mesh, "fsdp")
  batch = layout.activation(("batch", None))
  x, w, targets, weights = args
  placed = (
    jax.device_put(x, layout.activation(("batch", None, None))),
    jax.device_put(w, layout.replicated()),
    jax.device_put(targets, batch),
    jax.device_put(weights, batch),
  )
  run = value_and_grad(xla, 5, ())
  one, many = run(*args), run(*placed)
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(many), strict=True):
    # fp32 sums over devices in another order.
    np.testing.assert_allclose(
      a, b, rtol=0, atol=3e-6 * float(jnp.abs(a).max())
    )


def sizes(jaxpr):
  """The size of every array that a program makes, inner ones too."""
  for equation in jaxpr.eqns:
    yield from (var.aval.size for var in equation.outvars)
    for value in jax.tree.leaves(
      list(equation.params.values()),
      is_leaf=lambda v: hasattr(v, "jaxpr") or hasattr(v, "eqns"),
    ):
      if hasattr(value, "jaxpr"):
        value = value.jaxpr
      if hasattr(value, "eqns"):
        yield from sizes(value)


def test_the_chunked_form_never_holds_all_logits():
  args = case()
  plain, chunked = (
    max(sizes(jax.make_jaxpr(value_and_grad(m, 2, ()))(*args).jaxpr))
    for m in (reference, xla)
  )
  assert plain == B * T * V
  assert chunked < B * T * V / 3


def test_auto_is_the_chunked_form_and_words_are_literal():
  assert dispatch("cross_entropy") is xla.linear_cross_entropy
  assert dispatch("cross_entropy", "reference") is (
    reference.linear_cross_entropy
  )
  with pytest.raises(
    NotImplementedError, match=r"'pallas': cross_entropy.*xla"
  ):
    dispatch("cross_entropy", "pallas")
