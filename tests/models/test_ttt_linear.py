"""TTT-Linear: what is refused, how it begins, and its other backbone."""

import jax
import jax.numpy as jnp
import pytest

from ablax.errors import UserError
from ablax.models.mixers import MIXERS
from ablax.models.mixers.ttt_linear import Start, turned
from ablax.models.param import init_params, specs


@pytest.mark.parametrize(
  ("opts", "said"),
  [
    ({"batch": 0}, "batch=0 must be at least 1"),
    ({"conv": -1}, "conv=-1 must be at least 0"),
    ({"base_lr": 0.0}, "base_lr=0.0 must be positive"),
    ({"rope_theta": -1.0}, "rope_theta=-1.0 must be positive"),
  ],
)
def test_what_cannot_be_is_refused(model_config, opts, said):
  opts = {f"ttt_linear.{key}": value for key, value in opts.items()}
  with pytest.raises(UserError, match=said):
    model_config(pattern=("ttt_linear",), opts=opts)


def test_heads_of_odd_size_are_refused(model_config):
  with pytest.raises(UserError, match=r"a head has 5; make model\.head_dim"):
    model_config(pattern=("ttt_linear",), head_dim=5)


def test_without_convolutions_a_state_is_the_learner_s(model_config):
  config = model_config(pattern=("ttt_linear",), opts={"ttt_linear.conv": 0})
  assert set(MIXERS["ttt_linear"].leaves(config)) == {"moved", "sum"}


def test_a_mini_batch_begins_with_means_of_its_gradients(model_config):
  config = model_config(pattern=("ttt_linear",))
  start = Start(config, 3)
  params = init_params(specs(start), jax.random.key(0))
  share_Q = start.apply({"params": params}).share_Q
  assert share_Q.tolist() == pytest.approx([1, 1 / 2, 1 / 3])
  params["share_bias"] = jnp.array([0.5, -1.0, 0.0])
  share_Q = start.apply({"params": params}).share_Q
  assert share_Q.tolist() == pytest.approx([1.5, 0, 1 / 3])


def test_only_distances_within_a_mini_batch_count():
  x, y = jax.random.normal(jax.random.key(0), (2, 1, 1, 1, 6))

  def product(t, s):
    return float((at(x, t) * at(y, s)).sum())

  def at(a, place):
    return turned(a, jnp.full((1, 1), place), 100.0)

  # fp32: a sum of 6.
  assert product(1, 3) == pytest.approx(product(5, 7), abs=1e-5)
  assert product(1, 3) != pytest.approx(product(3, 1), abs=1e-2)
