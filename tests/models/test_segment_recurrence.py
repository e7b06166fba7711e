"""Segments in one pass, against segments one after another with a memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ablax.models.context import Context
from ablax.models.once import Alone
from ablax.models.param import init_params, specs

PROVES = ("mixer:segment_recurrence",)
AGAINST = "a loop over segments"

SEGMENT, MEMORY, T, D, N, K, H, B = 4, 6, 18, 24, 4, 2, 6, 2


def one_by_one(layers, x):
  """Attention layers with a residual, each segment after its memory.

  As in section 3.2: a layer's keys and values come of the hidden states that
  entered it, of the memory's without a gradient.
  """
  outputs = []
  memories = [x[:, :0]] * len(layers)
  for start in range(0, T, SEGMENT):
    h = x[:, start : start + SEGMENT]
    for i, p in enumerate(layers):
      stream = jnp.concatenate([jax.lax.stop_gradient(memories[i]), h], axis=1)
      memories[i] = stream[:, max(0, stream.shape[1] - MEMORY) :]
      q, k, v = (
        jnp.einsum("BTD,DNH->BTNH", of, p[name]["kernel"])
        for name, of in (("q", h), ("k", stream), ("v", stream))
      )
      k, v = (jnp.repeat(a, N // K, axis=2) for a in (k, v))
      s = jnp.einsum("BTNH,BSNH->BNTS", q, k) / H**0.5
      n = stream.shape[1] - h.shape[1]  # of the memory
      ahead = jnp.arange(s.shape[3]) > n + jnp.arange(s.shape[2])[:, None]
      w = jax.nn.softmax(jnp.where(ahead, -jnp.inf, s), axis=-1)
      o = jnp.einsum("BNTS,BSNH->BTNH", w, v)
      h = h + jnp.einsum("BTNH,NHD->BTD", o, p["o"]["kernel"])
    outputs.append(h)
  return jnp.concatenate(outputs, axis=1)


@pytest.fixture
def layer(model_config):
  config = model_config(
    mixer="segment_recurrence",
    position="none",
    opts={
      "segment_recurrence.segment": SEGMENT,
      "segment_recurrence.memory": MEMORY,
    },
  )
  return Alone(config, "segment_recurrence")


def drawn(layer, x, ctx, n):
  of = specs(layer, x, ctx)
  return [init_params(of, jax.random.key(i)) for i in range(n)]


def through(layer, layers, x, ctx):
  for params in layers:
    x = x + layer.apply({"params": params}, x, ctx)[0]
  return x


def test_outputs_and_gradients_are_those_of_segments_in_turn(layer):
  x, weights = jax.random.normal(jax.random.key(7), (2, B, T, D))
  ctx = Context(jnp.broadcast_to(jnp.arange(T), (B, T)))
  layers = drawn(layer, x, ctx, 3)

  def ours(layers, x):
    return (through(layer, layers, x, ctx) * weights).sum()

  def theirs(layers, x):
    return (one_by_one([p["mixer"] for p in layers], x) * weights).sum()

  got, got_grads = jax.value_and_grad(ours, (0, 1))(layers, x)
  want, want_grads = jax.value_and_grad(theirs, (0, 1))(layers, x)
  np.testing.assert_allclose(got, want, rtol=1e-5)
  # fp32 sums in another order, of gradients up to some 20.
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-4),
    got_grads,
    want_grads,
  )


def test_no_gradient_reaches_hidden_states_of_the_memory(layer):
  """By one layer a later segment sees a token, and learns nothing of it."""
  x = jax.random.normal(jax.random.key(3), (B, T, D))
  ctx = Context(jnp.broadcast_to(jnp.arange(T), (B, T)))
  (params,) = drawn(layer, x, ctx, 1)
  last = slice(2 * SEGMENT, 3 * SEGMENT)

  def of_segment(x):
    return through(layer, [params], x, ctx)[:, last]

  reached = np.abs(jax.grad(lambda x: (of_segment(x) ** 2).sum())(x))
  assert not reached[:, : last.start].any() and reached[:, last].all()
  touched = x.at[:, last.start - MEMORY].add(1.0)
  assert np.abs(of_segment(touched) - of_segment(x)).max() > 1e-3
  before = x.at[:, last.start - MEMORY - 1].add(1.0)
  np.testing.assert_array_equal(of_segment(before), of_segment(x))
