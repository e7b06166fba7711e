"""Frequencies of stretched RoPE are transformers', and dynamic NTK's are so."""

import jax.numpy as jnp
import numpy as np
import pytest
import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from ablax.models.positions import POSITIONS

PROVES = (
  "position:linear",
  "position:dynamic_ntk",
  "position:yarn",
  "position:llama3",
  "position:longrope",
  "position:ntk",
  "position:consistent_ntk",
)
AGAINST = "transformers ROPE_INIT_FUNCTIONS"

R, THETA, LONG = 16, 500.0, 256
SHORT_FACTORS = tuple(1 + 0.1 * i for i in range(R // 2))
LONG_FACTORS = tuple(2 + 0.5 * i for i in range(R // 2))
OURS = {
  "linear": {},
  "dynamic_ntk": {},
  "yarn": {"beta_fast": 8.0},
  "llama3": {},
  "longrope": {"short_factors": SHORT_FACTORS, "long_factors": LONG_FACTORS},
}
THEIRS = {
  "dynamic_ntk": {"rope_type": "dynamic"},
  "yarn": {"beta_fast": 8.0},
  "llama3": {"low_freq_factor": 1.0, "high_freq_factor": 4.0},
  "longrope": {
    "short_factor": list(SHORT_FACTORS),
    "long_factor": list(LONG_FACTORS),
  },
}


def position(model_config, word, **opts):
  opts = {"rope_theta": THETA, "factor": 4.0} | opts
  if word not in ("linear", "ntk"):
    opts = {"original_len": 64} | opts
  config = model_config(
    position=word,
    max_len=LONG,
    head_dim=R,
    opts={f"{word}.{k}": v for k, v in opts.items()},
  )
  return POSITIONS[word](config)


def inverse_frequencies(word, length):
  """theirs, and the factor of what is turned."""
  # Of dynamic NTK, the length trained at is the config's own.
  trained = 64 if word == "dynamic_ntk" else LONG
  given = {"rope_type": word, "rope_theta": THETA, "factor": 4.0}
  given |= {"original_max_position_embeddings": 64} | THEIRS.get(word, {})
  config = transformers.LlamaConfig(
    head_dim=R, max_position_embeddings=trained, rope_parameters=given
  )
  init = ROPE_INIT_FUNCTIONS[given["rope_type"]]
  frequencies, factor = init(config, device="cpu", seq_len=length)
  return frequencies.numpy(), factor


@pytest.mark.parametrize("length", [40, 200])
@pytest.mark.parametrize("word", OURS)
def test_it_is_transformers(model_config, word, length):
  ours = position(model_config, word, **OURS[word])
  frequencies, factor = inverse_frequencies(word, length)
  got = ours.frequencies(R, jnp.array([[length]])).reshape(-1, R // 2)[0]
  np.testing.assert_allclose(got, frequencies, rtol=2e-6)  # fp32 powers
  assert ours.amplitude == pytest.approx(factor)


def test_ntk_interpolates_the_slowest_pair_alone(model_config):
  plain = position(model_config, "linear", factor=1.0).frequencies(R, None)
  ours = position(model_config, "ntk").frequencies(R, None)
  assert ours[0] == plain[0] == 1
  np.testing.assert_allclose(ours[-1], plain[-1] / 4, rtol=1e-5)  # fp32 powers
  assert (np.diff(ours / plain) < 0).all()


def test_short_rows_are_as_they_were_trained(model_config):
  """Dynamic ones at or below the trained length are plain RoPE."""
  plain = position(model_config, "linear", factor=1.0).frequencies(R, None)
  for word in ("dynamic_ntk", "consistent_ntk"):
    ours = position(model_config, word)
    got = ours.frequencies(R, jnp.array([[1, 64]]))[0]
    np.testing.assert_allclose(got, [plain, plain], rtol=1e-6)  # fp32 powers
    longer = ours.frequencies(R, jnp.array([[65]]))[0, 0]
    assert (longer[1:] < plain[1:]).all()
