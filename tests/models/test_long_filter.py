"""Hyena's filters as they begin, what is refused, and what decoding keeps."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ablax.errors import UserError
from ablax.kernels.long_conv.xla import FEW
from ablax.models.context import Context
from ablax.models.mixers import MIXERS
from ablax.models.mixers.long_filter import LongFilter
from ablax.models.once import Alone
from ablax.models.param import init_params, specs

BOTH = ("hyena", "multi_hyena")


@pytest.mark.parametrize(
  ("opts", "said"),
  [
    ({"order": 0}, "order=0 must be at least 1"),
    ({"order": 1}, "order=1 has no long convolution; set it to 2"),
  ],
)
def test_what_hyena_cannot_be_is_refused(model_config, opts, said):
  opts = {f"hyena.{key}": value for key, value in opts.items()}
  with pytest.raises(UserError, match=said):
    model_config(pattern=("hyena",), opts=opts)


@pytest.mark.parametrize("mixer", BOTH)
@pytest.mark.parametrize(
  ("key", "value", "said"),
  [
    ("conv", 0, "conv=0 must be at least 1"),
    ("bands", 0, "bands=0 must be at least 1"),
    ("filter_width", 0, "filter_width=0 must be at least 1"),
    ("filter_layers", -1, "filter_layers=-1 must be at least 0"),
    ("shift", -0.1, "shift=-0.1 must be at least 0"),
    ("filter_frequency", 0.0, "filter_frequency=0.0 must be positive"),
    ("slow_decay", 0.0, "slow_decay=0.0 must be positive"),
    ("fast_decay", -1.0, "fast_decay=-1.0 must be positive"),
  ],
)
def test_what_filters_cannot_be_is_refused(
  model_config, mixer, key, value, said
):
  with pytest.raises(UserError, match=said):
    model_config(pattern=(mixer,), opts={f"{mixer}.{key}": value})


def test_sizes_of_heads_cannot_be_negative(model_config):
  for key in ("key_dim", "value_dim"):
    with pytest.raises(UserError, match=f"{key}=-1 must be positive"):
      model_config(pattern=("multi_hyena",), opts={f"multi_hyena.{key}": -1})


def filters(config, channels, length, **changes):
  """Parameters of filters as they begin, and their values."""
  options = dataclasses.replace(config.options("hyena"), **changes)
  module = LongFilter(config, options, (channels,), ("ff",))
  params = init_params(specs(module, length=1), jax.random.key(0))
  return params, np.asarray(module.apply({"params": params}, length))


def test_filters_begin_as_those_of_the_authors(model_config):
  config = model_config(pattern=("hyena",), max_len=100)
  params, h_LE = filters(config, 4000, 101)
  assert params["hidden_0"]["kernel"].shape == (33, 64)
  assert set(params) == {
    *("hidden_0", "hidden_1", "hidden_2", "out", "frequency", "skip")
  }
  for name in ("hidden_0", "hidden_1", "out"):
    assert float(params[name]["kernel"].std()) == pytest.approx(0.02, rel=0.05)
  assert set(np.asarray(params["frequency"])) == {14.0}
  assert float(params["skip"].std()) == pytest.approx(1, rel=0.05)
  # Windows leave 0.01 after 1.5 max_lens in the first channel, 0.3 in the last.
  _, unwindowed_LE = filters(config, 4000, 101, slow_decay=1e9, fast_decay=1e9)
  left_E = h_LE[100] / unwindowed_LE[100]
  assert left_E[0] == pytest.approx(0.01 ** (1 / 1.5), rel=1e-4)
  assert left_E[-1] == pytest.approx(0.01 ** (1 / 0.3), rel=1e-4)
  _, shifted_LE = filters(config, 4000, 101, shift=0.5)
  of_shift_LE = 0.5 * unwindowed_LE[1:]
  np.testing.assert_allclose(
    shifted_LE[1:], h_LE[1:] + of_shift_LE, rtol=0, atol=1e-6
  )


def test_a_filter_is_a_function_of_the_share_of_max_len(model_config):
  short, long = (model_config(pattern=("hyena",), max_len=n) for n in (50, 100))
  of_short, of_long = (
    filters(config, 3, length)[1]
    for config, length in ((short, 25), (long, 50))
  )
  np.testing.assert_allclose(of_short, of_long[::2], rtol=0, atol=1e-6)
  # So are lags beyond it, and a prefix does not depend on what follows.
  beyond = filters(short, 3, 75)[1]
  np.testing.assert_allclose(beyond[:25], of_short, rtol=0, atol=1e-6)
  assert np.isfinite(beyond).all()


@pytest.mark.parametrize("mixer", BOTH)
def test_a_state_has_slots_for_the_text(model_config, mixer):
  config = model_config(pattern=(mixer,))
  few, many = (MIXERS[mixer].state_numbers(config, n) for n in (10, 1010))
  D, tags = config.d_model, 2
  of_slot = {"hyena": D, "multi_hyena": 2 * D}[mixer] + tags
  assert many - few == 1000 * of_slot


@pytest.mark.parametrize(
  ("mixer", "opts"),
  [
    ("hyena", {}),
    ("hyena", {"hyena.order": 3, "hyena.convolve_values": True}),
    ("multi_hyena", {"multi_hyena.key_dim": 3}),
  ],
)
def test_long_chunks_go_on_as_the_row(model_config, mixer, opts):
  """Chunks of few outputs read slots, others transform them: both, in turn."""
  T, cuts = 61, (0, FEW + 9, FEW + 10, 40, 61)
  config = model_config(pattern=(mixer,), opts=opts)
  module = Alone(config, mixer)
  x = jax.random.normal(jax.random.key(1), (2, T, config.d_model))
  segments = np.ones((2, T), np.int32)
  segments[0, 13:] = 2  # within the first chunk, and within a later one
  segments[1, 30:] = 2
  segments[1, :3] = 0  # a shorter prompt
  ctx = Context(jnp.broadcast_to(jnp.arange(T), (2, T)), jnp.asarray(segments))
  params = init_params(specs(module, x, ctx), jax.random.key(0))

  @jax.jit
  def run(x, ctx, state=None):
    return module.apply({"params": params}, x, ctx, state)

  want, _ = run(x, ctx)
  state, found = MIXERS[mixer].init_state(config, 2, T + 6), []
  for start, end in itertools.pairwise(cuts):
    y, state = run(x[:, start:end], ctx.chunk(start, end), state)
    found.append(y)
  # fp32: other blocks sum in another order.
  scale = float(jnp.abs(want).max())
  np.testing.assert_allclose(
    jnp.concatenate(found, 1), want, rtol=0, atol=5e-6 * scale
  )
