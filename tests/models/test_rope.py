"""RoPE against complex numbers in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ablax.models.positions.rope import RoPE

PROVES = ("position:rope",)
AGAINST = "float64 complex numbers"

H = 10


@pytest.fixture
def rotate(model_config):
  config = model_config(head_dim=H, opts={"rope.rope_theta": 300.0})
  return lambda x, positions: RoPE(config).apply(
    {}, x, positions, method="rotate"
  )


def rotate_by_complex_numbers(x_BTNH, positions_BT):
  """exp(i * position * theta^(-2j/H)) times pair j, (j, j + H/2)."""
  x = x_BTNH.astype(np.float64)
  z = x[..., : H // 2] + 1j * x[..., H // 2 :]
  frequency = 300.0 ** (-2 * np.arange(H // 2) / H)
  z = z * np.exp(1j * positions_BT[:, :, None, None] * frequency)
  return np.concatenate([z.real, z.imag], -1)


def vectors(seed, T):
  x = jax.random.normal(jax.random.key(seed), (2, T, 3, H))
  return np.asarray(x)


def test_it_is_a_complex_rotation(rotate):
  positions = np.random.default_rng(0).integers(0, 2000, (2, 13))
  x = vectors(0, 13)
  got = rotate(jnp.array(x), jnp.array(positions))
  # An fp32 angle of 2000 is off by up to 6e-5, times entries of up to 3.
  np.testing.assert_allclose(
    got, rotate_by_complex_numbers(x, positions), rtol=0, atol=4e-4
  )


def test_scores_depend_only_on_the_distance(rotate):
  q, k = jnp.array(vectors(1, 7)), jnp.array(vectors(2, 7))
  positions = jnp.arange(7)[None].repeat(2, 0)

  def scores(shift):
    there = positions + shift
    return jnp.einsum("BTNH,BSNH->BNTS", rotate(q, there), rotate(k, there))

  # An fp32 angle of 500 is off by up to 3e-5, times a score of up to 15.
  np.testing.assert_allclose(scores(0), scores(501), rtol=0, atol=1e-3)
  moved = rotate(q, positions + 1), rotate(k, positions)
  assert jnp.abs(jnp.einsum("BTNH,BSNH->BNTS", *moved) - scores(0)).max() > 0.1


def test_lengths_are_kept_and_position_zero_does_nothing(rotate):
  x = jnp.array(vectors(3, 5))
  np.testing.assert_array_equal(rotate(x, jnp.zeros((2, 5), jnp.int32)), x)
  turned = rotate(x, jnp.full((2, 5), 77))
  norms = (jnp.linalg.norm(a, axis=-1) for a in (x, turned))
  # fp32 rounding of cos^2 + sin^2.
  np.testing.assert_allclose(*norms, rtol=1e-6)


def test_bfloat16_keeps_its_angles_in_fp32(rotate):
  x = vectors(4, 3)
  positions = np.full((2, 3), 1999)
  got = rotate(jnp.array(x, jnp.bfloat16), jnp.array(positions))
  assert got.dtype == jnp.bfloat16
  want = rotate_by_complex_numbers(x, positions)
  # Two roundings to 8 bits of entries of up to 3; a bf16 angle of 1999 would
  # be wrong by whole radians.
  np.testing.assert_allclose(got.astype(np.float32), want, rtol=0, atol=0.03)
