"""Functions of each device's own rows: nothing is gathered, all is the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ablax.kernels.long_conv.xla import long_conv
from ablax.parallel.mesh import MeshConfig, make_mesh
from ablax.parallel.rules import Layout, apart, use

ROWS, FILTERS = ("batch", None, "ff"), (None, "ff")


def on_mesh(layout, split):
  """The gradient of a convolution of rows, with parts `apart` or without."""

  def run(*args):
    with use(layout):
      ins = (ROWS, FILTERS, ("batch", None))
      convolve = apart(long_conv, ins, ROWS) if split else long_conv

      def loss(u, h):
        return jnp.sin(convolve(u, h, args[2])).sum()

      return jax.value_and_grad(loss, (0, 1))(*args[:2])

  return jax.jit(run)


@pytest.mark.parametrize("sizes", [{"data": 8}, {"data": 2, "tensor": 4}])
def test_parts_are_the_whole_and_nothing_is_gathered(sizes):
  layout = Layout.of(make_mesh(MeshConfig.of(**sizes)), "fsdp")
  rng = np.random.default_rng(0)
  u = jnp.asarray(rng.normal(size=(8, 150, 4)), jnp.float32)
  h = jnp.asarray(rng.normal(size=(150, 4)) / 8, jnp.float32)
  starts = jnp.asarray(rng.random((8, 150)) < 0.02)
  want = on_mesh(None, False)(u, h, starts)
  args = [
    jax.device_put(a, layout.activation(axes))
    for a, axes in zip((u, h, starts), (ROWS, FILTERS, ROWS[:2]), strict=True)
  ]
  run = on_mesh(layout, True).lower(*args).compile()
  assert "all-gather" not in run.as_text()
  # It would be: without this a device has all rows.
  assert "all-gather" in on_mesh(layout, False).lower(*args).compile().as_text()
  for a, b in zip(
    jax.tree.leaves(run(*args)), jax.tree.leaves(want), strict=True
  ):
    # fp32: sums of rows in another order, relative to the largest.
    atol = 5e-6 * float(jnp.abs(b).max())
    np.testing.assert_allclose(a, b, rtol=0, atol=atol)


def test_without_a_mesh_a_function_is_itself():
  assert apart(long_conv, (ROWS, FILTERS), ROWS) is long_conv
  one = Layout.of(make_mesh(MeshConfig.of(), jax.devices()[:1]), "fsdp")
  with use(one):
    assert apart(long_conv, (ROWS, FILTERS), ROWS) is long_conv
