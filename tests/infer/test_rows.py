"""Rows are copied and reordered for every mixer."""

import importlib.util
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ablax.infer.rows import Rows
from ablax.infer.sampling import Sampling, generate, score
from ablax.models.lm import init
from ablax.models.mixers import MIXERS
from ablax.models.state import init_state, select_rows

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def hybrid(model_config):
  """Attention and a mixer with a state of another form, and a tail."""
  file = ROOT / "examples/plugins/average.py"
  spec = importlib.util.spec_from_file_location("average", file)
  plugin = importlib.util.module_from_spec(spec)
  MIXERS._registered.pop("average", None)
  spec.loader.exec_module(plugin)
  sys.modules["average"] = plugin
  config = model_config(
    pattern=("average", "attention"),
    n_layers=3,
    vocab_size=54,
    tie_embeddings=False,
  )
  yield config, init(config, jax.random.key(6))
  del MIXERS._registered["average"], sys.modules["average"]


def numbered(config, n):
  """A state that says, in each number, which row it belongs to."""
  state = init_state(config, n, 8)

  def fill(leaf):
    if leaf.ndim < 2:
      return leaf + 7  # a slot that the rows share
    row = jnp.arange(n).reshape(1, n, *[1] * (leaf.ndim - 2))
    return jnp.broadcast_to(row, leaf.shape).astype(leaf.dtype)

  return jax.tree.map(fill, state)


def rows_of(state):
  return {
    tuple(np.asarray(leaf[0, :]).reshape(leaf.shape[1], -1)[:, 0].tolist())
    if leaf.ndim > 1
    else int(leaf[0])
    for leaf in jax.tree.leaves(state)
  }


def test_rows_are_selected_in_every_leaf_that_has_them(hybrid):
  config, _ = hybrid
  state = select_rows(config, numbered(config, 3), jnp.array([2, 0, 0, 1]))
  assert rows_of(state) == {(2, 0, 0, 1), 7}


def test_both_halves_of_guided_rows_are_selected(hybrid):
  config, _ = hybrid
  counts_BV = jnp.arange(3)[:, None] * jnp.ones((1, 5), jnp.int32)
  rows = Rows(numbered(config, 6), counts_BV > 0, counts_BV, 3, 2)
  new = rows.select(config, jnp.array([2, 0]))
  assert rows_of(new.state) == {(2, 0, 5, 3), 7}
  assert new.counts_BV[:, 0].tolist() == [2, 0] and new.n_rows == 2


@pytest.mark.parametrize("decoding", ["beam", "contrastive"])
def test_a_search_follows_the_state_of_any_mixer(hybrid, letters, decoding):
  config, params = hybrid
  prompts = ["abc", "hello"]
  found = generate(
    config,
    params,
    letters(),
    prompts,
    Sampling(max_tokens=9),
    decoding=decoding,
  )
  for prompt, completion in zip(prompts, found, strict=True):
    ids = [1, *letters().encode(prompt), *completion.tokens]
    n = len(completion.tokens)
    scored = score(config, params, jnp.array([ids]))[0, -n:]
    # fp32 sums in another order: about 1e-6 on logits of size 1.
    np.testing.assert_allclose(completion.logprobs, scored, atol=1e-5)
