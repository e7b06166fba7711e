"""Mixers with a state of fixed size: what is refused, and how states begin."""

import jax
import jax.numpy as jnp
import pytest

from ablax.errors import UserError
from ablax.models.mixers import MIXERS
from ablax.models.mixers.decay import inverse_softplus_of_steps, log_of_rates
from ablax.models.mixers.recurrence import Recurrence, last_ones
from ablax.models.mixers.retention import log_decays


@pytest.mark.parametrize(
  ("opts", "said"),
  [
    ({"linear_attention.feature_map": "elus"}, "did you mean 'elu'"),
    ({"linear_attention.n_features": 3}, "number of features of feature_map"),
    ({"linear_attention.feature_map": "identity"}, "a sum that feature_map"),
    ({"gla.key_dim": -1}, "key_dim=-1 must be positive, or 0 for its default"),
    ({"gla.gate_rank": 0}, "gate_rank=0 must be at least 1"),
    ({"gla.temperature": 0.0}, "temperature=0.0 must be positive"),
    ({"retention.key_dim": 5}, "turns pairs of channels, and a key has 5"),
    ({"delta_net.conv": 0}, "conv=0 must be at least 1"),
    ({"mamba.dt_rank": -1}, "dt_rank=-1 must be positive, or 0 for d_model"),
    ({"mamba2.head_dim": 7}, "48 channels, .* heads of 7 do not divide"),
    ({"mamba2.groups": 3}, "groups=3 does not divide its 4 heads"),
    ({"mlstm.gate_cap": 0.0}, "gate_cap=0.0 must be positive"),
    ({"rwkv6.mix_rank": 0}, "mix_rank=0 must be at least 1"),
    ({"rwkv7.gate_rank": -1}, "gate_rank=-1 must be positive, or 0 for that"),
    ({"s4d.state": 5}, "state=5 must be even"),
    ({"h3.shift": 0}, "shift=0 must be at least 1"),
    ({"rg_lru.width": 26}, "n_heads=4 does not divide 26"),
    ({"min_gru.expand": 0}, "expand=0 must be at least 1"),
    ({"slstm.conv": 0}, "conv=0 must be at least 1"),
    (
      {"longformer.own_projections": True, "longformer.sinks": True},
      "own_projections=True and sinks=True",
    ),
  ],
)
def test_what_cannot_be_is_refused(model_config, opts, said):
  (mixer,) = {key.split(".")[0] for key in opts}
  with pytest.raises(UserError, match=said):
    model_config(pattern=(mixer,), opts=opts)


def test_blocks_of_channels_must_divide_the_width(model_config):
  sizes = {"d_model": 26, "head_dim": 6}
  with pytest.raises(UserError, match="n_heads=4 blocks of channels"):
    model_config(pattern=("slstm",), **sizes)


def test_maps_are_kept_apart_only_where_there_are_two(model_config):
  with pytest.raises(UserError, match="tie_embed_maps=False has no maps"):
    model_config(tie_embed_maps=False)


def test_a_state_does_not_grow_with_the_text(model_config):
  for mixer in MIXERS.own:
    if not issubclass(MIXERS[mixer], Recurrence):
      continue
    config = model_config(pattern=(mixer,))
    sizes = {MIXERS[mixer].state_numbers(config, n) for n in (10, 10_000)}
    assert len(sizes) == 1, mixer


def test_steps_and_rates_start_where_the_papers_say():
  key = jax.random.key(0)
  steps = inverse_softplus_of_steps(1e-3, 1e-1)(key, (4000,), jnp.float32)
  steps = jax.nn.softplus(steps)
  assert 1e-3 <= steps.min() < 1.1e-3 and 0.09 < steps.max() <= 0.1001
  assert float(jnp.median(steps)) == pytest.approx(1e-2, rel=0.1)
  rates = jnp.exp(log_of_rates(1.0, 16.0)(key, (4000,), jnp.float32))
  assert 1 <= rates.min() < 1.1 and 15.9 < rates.max() <= 16.001
  # RetNet's heads: 1 - 1 / 32, 1 - 1 / 64, ...
  assert jnp.exp(log_decays(3)).tolist() == pytest.approx(
    [31 / 32, 63 / 64, 127 / 128]
  )


def test_the_last_inputs_are_those_of_the_document():
  """Over a cut into chunks, with a document that begins in each."""
  x = jnp.arange(1.0, 8.0)[None, :, None]
  starts = jnp.array([[True, False, False, True, False, True, False]])
  cached = jnp.zeros((1, 2, 1))
  whole, _ = last_ones(x, starts, cached)
  found = [a[0, :, 0].tolist() for a in whole]
  assert found[2] == [1, 2, 3, 4, 5, 6, 7]
  assert found[1] == [0, 1, 2, 0, 4, 0, 6]
  assert found[0] == [0, 0, 1, 0, 0, 0, 0]
  parts = []
  for start, end in ((0, 2), (2, 5), (5, 7)):
    part, cached = last_ones(x[:, start:end], starts[:, start:end], cached)
    parts.append(part)
  joined = [
    jnp.concatenate(p, axis=1)[0, :, 0].tolist()
    for p in zip(*parts, strict=True)
  ]
  assert joined == found
