"""Matmuls of projections: fp8 against ml_dtypes and float64 numpy."""

import functools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from ablax.errors import UserError
from ablax.models import lm
from ablax.models.linear import Projection
from ablax.models.matmuls import MATMULS, fp8
from ablax.models.param import init_params, specs

PROVES = ("matmul:default", "matmul:fp8")

SIZES = {"B": 2, "T": 5, "D": 12, "N": 3, "H": 7, "F": 17, "E": 2}
SPECS = [
  "BTD,DF->BTF",
  "BTD,DNH->BTNH",
  "BTNH,NHD->BTD",
  "EBTD,EDF->EBTF",  # a batch of matrices, as of experts
]
EMULATED = {"matmul": "fp8", "opts": {"fp8.emulate": True}}


def operands(spec, dtype=jnp.float32, spread=1.0):
  """Random x, kernel and cotangent; `spread` widens their magnitudes."""
  terms = spec.replace("->", ",").split(",")
  keys = jax.random.split(jax.random.key(0), 6)

  def draw(letters, key, size_key):
    shape = [SIZES[c] for c in letters]
    size = jnp.exp(spread * jax.random.normal(size_key, shape))
    return (jax.random.normal(key, shape) * size).astype(dtype)

  pairs = zip(keys[::2], keys[1::2], strict=True)
  return [draw(t, *pair) for t, pair in zip(terms, pairs, strict=True)]


def rounded(a, dtype):
  """In float64: the tensor as fp8 with one scale keeps it."""
  a = np.asarray(a, np.float64)
  scale = np.abs(a).max() / float(ml_dtypes.finfo(dtype).max)
  return (a / scale).astype(np.float32).astype(dtype).astype(np.float64) * scale


@pytest.mark.parametrize("spec", SPECS)
def test_default_is_the_einsum_in_the_compute_dtype(model_config, spec):
  x, kernel, _ = operands(spec)
  for dtype, tolerance in (("float32", 2e-6), ("bfloat16", 2e-2)):
    config = model_config(compute_dtype=dtype)
    got = MATMULS["default"](config, spec, x, kernel)
    want = np.einsum(spec, *(np.asarray(a, np.float64) for a in (x, kernel)))
    assert got.dtype == dtype
    # Some 20 products, each of operands rounded to the dtype.
    error = np.abs(np.asarray(got, np.float64) - want).max()
    assert error <= tolerance * np.abs(want).max()


@pytest.mark.parametrize("spec", SPECS)
def test_the_gradients_of_default_are_those_of_the_einsum(model_config, spec):
  """Which a CPU takes by a rule of ours, whichever operand is the smaller."""
  x, kernel, g = operands(spec)
  a, b, out = spec.replace("->", ",").split(",")
  for dtype, tolerance in (("float32", 2e-6), ("bfloat16", 2e-2)):
    config = model_config(compute_dtype=dtype)
    product = functools.partial(MATMULS["default"], config, spec)
    _, vjp = jax.vjp(product, x, kernel)
    grads = vjp(g.astype(dtype))
    x_64, kernel_64, g_64 = (np.asarray(v, np.float64) for v in (x, kernel, g))
    wanted = (
      np.einsum(f"{out},{b}->{a}", g_64, kernel_64),
      np.einsum(f"{a},{out}->{b}", x_64, g_64),
    )
    for got, want in zip(grads, wanted, strict=True):
      assert got.dtype == jnp.float32
      # As above, and the bfloat16 sum is rounded once more.
      error = np.abs(np.asarray(got, np.float64) - want).max()
      assert error <= tolerance * np.abs(want).max()


@pytest.mark.parametrize("spec", SPECS)
def test_fp8_is_the_product_of_the_rounded_operands(model_config, spec):
  """And its gradients those of E5M2 cotangents with E4M3 operands."""
  config = model_config(**EMULATED)
  x, kernel, g = operands(spec)
  product = functools.partial(MATMULS["fp8"], config, spec)
  y, vjp = jax.vjp(product, x, kernel)
  e4m3, e5m2 = ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2
  x_8, kernel_8, g_8 = rounded(x, e4m3), rounded(kernel, e4m3), rounded(g, e5m2)
  a, rest = spec.split(",")
  b, out = rest.split("->")
  wanted = [
    np.einsum(spec, x_8, kernel_8),
    np.einsum(f"{out},{b}->{a}", g_8, kernel_8),
    np.einsum(f"{a},{out}->{b}", x_8, g_8),
  ]
  for got, want in zip((y, *vjp(g)), wanted, strict=True):
    assert got.shape == want.shape and got.dtype == jnp.float32
    # fp32 sums of some 20 products: what is rounded to fp8 is the same.
    np.testing.assert_allclose(
      got, want, rtol=0, atol=3e-6 * np.abs(want).max()
    )
  exact = np.einsum(spec, *(np.asarray(v, np.float64) for v in (x, kernel)))
  error = np.abs(wanted[0] - exact).max() / np.abs(exact).max()
  assert 1e-3 < error < 0.1, "it is not rounded at all, or far too much"


def test_fp8_keeps_the_dtypes_of_what_it_is_given(model_config):
  config = model_config(compute_dtype="bfloat16", **EMULATED)
  spec = "BTD,DF->BTF"
  x, kernel, g = operands(spec)
  product = functools.partial(MATMULS["fp8"], config, spec)
  y, vjp = jax.vjp(product, x.astype(jnp.bfloat16), kernel)
  dx, dkernel = vjp(g.astype(jnp.bfloat16))
  assert (y.dtype, dx.dtype, dkernel.dtype) == (
    jnp.bfloat16,
    jnp.bfloat16,
    jnp.float32,
  )


@pytest.mark.parametrize("size", [0.0, 1e-44, 1e-38, 1.0, 1e38])
def test_any_magnitude_is_quantized(size):
  """Zeros, subnormals and huge numbers; the largest is the format's own."""
  a = jnp.asarray([-1.0, 0.5, 0.0, 0.25]) * size
  for dtype, limit in ((fp8.FORWARD, 448.0), (fp8.BACKWARD, 57344.0)):
    q, scale = fp8.quantize(a, dtype)
    back = np.asarray(q, np.float64) * float(scale)
    assert np.isfinite(back).all()
    if size >= 1e-37:
      assert np.abs(np.asarray(q, np.float64)).max() == limit
      np.testing.assert_allclose(back, np.asarray(a, np.float64), rtol=1e-6)


def test_what_is_not_finite_stays_visible():
  for bad in (jnp.nan, jnp.inf):
    q, scale = fp8.quantize(jnp.asarray([1.0, bad]), fp8.BACKWARD)
    with np.errstate(invalid="ignore"):
      back = np.asarray(q, np.float64) * float(scale)
    assert not np.isfinite(back).all()


def test_the_backward_pass_keeps_a_byte_for_each_number(model_config):
  config = model_config(**EMULATED)
  spec = "BTD,DF->BTF"
  x, kernel, _ = operands(spec)
  product = functools.partial(MATMULS["fp8"], config, spec)
  _, vjp = jax.vjp(product, x, kernel)
  kept = sum(a.nbytes for a in jax.tree.leaves(vjp))
  # And two scales, in fp32.
  assert x.size + kernel.size <= kept <= x.size + kernel.size + 16


def test_a_projection_multiplies_as_the_config_says(model_config):
  spec, shape, axes = "BTD,DF->BTF", (12, 17), ("embed", "ff")
  x = operands(spec)[0]
  outputs = {}
  for word, more in (("default", {}), ("fp8", EMULATED)):
    module = Projection(model_config(**more), spec, shape, axes)
    params = init_params(specs(module, x), jax.random.key(0))
    outputs[word] = module.apply({"params": params}, x)
    want = MATMULS[word](model_config(**more), spec, x, params["kernel"])
    np.testing.assert_array_equal(outputs[word], want)
  assert not np.array_equal(*outputs.values())


def test_it_lowers_to_fp8_operands_on_a_gpu(model_config, monkeypatch):
  """The products themselves, not products of widened numbers."""
  monkeypatch.setattr(fp8, "has_fp8", lambda: True)
  config = model_config(matmul="fp8")
  x, kernel, g = operands("BTD,DF->BTF")

  def both(x, kernel, g):
    product = functools.partial(MATMULS["fp8"], config, "BTD,DF->BTF")
    y, vjp = jax.vjp(product, x, kernel)
    return y, vjp(g)

  text = jax.export.export(jax.jit(both), platforms=["cuda"])(
    x, kernel, g
  ).mlir_module()
  dots = [line for line in text.splitlines() if "stablehlo.dot" in line]
  assert len(dots) == 3 and all("f8E4M3FN" in line for line in dots)
  assert sum("f8E5M2" in line for line in dots) == 2


def test_a_device_without_fp8_refuses_it_by_name(model_config):
  message = r"model.matmul='fp8' needs an NVIDIA GPU .* this is cpu; use"
  with pytest.raises(UserError, match=message):
    lm.param_specs(model_config(matmul="fp8"))
