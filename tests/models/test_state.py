"""Decode states: what is refused, and the token before across chunks."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ablax.errors import UserError
from ablax.models.context import Context
from ablax.models.lm import apply, init
from ablax.models.shift import token_before
from ablax.models.state import init_state, state_bytes

TOKENS = jnp.arange(6).reshape(2, 3)
HERE = jnp.broadcast_to(jnp.arange(3), (2, 3))


@pytest.mark.parametrize("mixer", ["attention", "gla"])
def test_a_state_of_another_shape_is_refused(model_config, mixer):
  config = model_config(pattern=(mixer,))
  params = init(config, jax.random.key(0))
  apply(config, params, TOKENS, HERE, state=init_state(config, 2, 40))
  wider = dataclasses.replace(config, n_heads=8, n_kv_heads=8)
  for state, said in (
    (init_state(config, 3, 8), r"\(2, 3.*with 2 rows is \(2, 2.*max_len"),
    (init_state(wider, 2, 8), r"\(2, 2, 8, .*with 2 rows is .*init_state"),
    (init_state(model_config(pattern=("rwkv4",)), 2, 8), "of other layers"),
  ):
    with pytest.raises(UserError, match=said):
      apply(config, params, TOKENS, HERE, state=state)


def test_what_stood_before_is_found_across_chunks(model_config):
  """Each document's first token has nothing before it."""
  config = model_config(d_model=8)
  x = jnp.arange(1.0, 8.0)[None, :, None] * jnp.ones(8)
  segments = jnp.array([[1, 1, 1, 2, 2, 3, 3]])
  want = [0, 1, 2, 0, 4, 0, 6]
  state, found = None, []
  for start, end in ((0, 2), (2, 3), (3, 6), (6, 7)):
    cut = slice(start, end)
    ctx = Context(jnp.zeros((1, end - start), jnp.int32), segments[:, cut])
    before, state = token_before(x[:, cut], ctx, config, state)
    found += before[0, :, 0].tolist()
  assert found == want


def test_channel_mixing_adds_one_input_to_a_state(model_config):
  config = model_config(pattern=("gla",))
  mixed = model_config(pattern=("gla",), ffn="channel_mix")
  more = [state_bytes(c, 3, 5) for c in (config, mixed)]
  # Of each layer and row its input, and the number of its document.
  assert np.diff(more) == config.n_layers * 3 * 4 * (config.d_model + 1)
