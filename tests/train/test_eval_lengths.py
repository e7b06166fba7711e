"""Held-out rows of other lengths than training's; RoPE stretched for them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ablax.data.prepare import prepare
from ablax.errors import UserError
from ablax.models import lm
from ablax.models.positions import POSITIONS
from ablax.models.positions.dynamic_ntk import DynamicNTK
from ablax.train.evaluate import evaluate
from ablax.train.logs import read_metrics
from ablax.train.loop import train
from ablax.train.program import Program
from ablax.train.setup import fit_vocab, make_setup

PROVES = ("feature:eval_lengths", "feature:eval_stretch")

T = 32
FORMS = (
  *("linear", "ntk", "dynamic_ntk", "consistent_ntk", "yarn", "llama3"),
  *("longrope", "rerope"),
)


@pytest.fixture
def config_of(small):
  return lambda **changes: small(**{"model__max_len": 128, **changes})


def measured(config, state=None):
  """Numbers of a fresh model, or of a state."""
  prepared = prepare(config.data, progress=False)
  setup = make_setup(fit_vocab(config, prepared.tokenizer.vocab_size))
  program = Program.of_one(setup)
  state = state or setup.init()
  found = evaluate(
    program.eval_step, state, prepared, config.data, program.shardings
  )
  return found[0], state, prepared


def test_rows_of_a_length_are_scored_as_if_trained_at_it(config_of):
  found, state, prepared = measured(config_of(data__eval_lengths=(8, 64, T)))
  assert found["loss"] == found[f"len={T}/loss"]
  for length in (8, 64):
    own, _, at_length = measured(config_of(data__seq_len=length), state)
    # Sums of the same losses in batches of other sizes.
    for key, value in own.items():
      assert found[f"len={length}/{key}"] == pytest.approx(value, rel=1e-5)
    assert at_length.heldout_bytes == prepared.heldout_bytes
  assert found["len=8/loss"] != pytest.approx(found["len=64/loss"], rel=1e-5)
  # The same tokens at each length, so that nats and bits go together.
  ratios = {
    round(value / found[key.replace("bits_per_byte", "loss")], 9)
    for key, value in found.items()
    if key.endswith("bits_per_byte")
  }
  assert len(ratios) == 1


def test_a_run_logs_each_length_and_its_hash_is_that_without(
  config_of, tmp_path
):
  plain = config_of(steps=2)
  config = config_of(steps=2, data__eval_lengths=(64,), eval__stretch="yarn")
  assert config.hash == plain.hash
  result = train(config, tmp_path / "run")
  last = read_metrics(tmp_path / "run")[-1]
  assert last["heldout/len=64/loss"] == result.heldout["len=64/loss"]


@pytest.mark.parametrize("word", FORMS)
def test_a_stretched_model_is_rope_in_training_and_the_form_beyond(
  config_of, word
):
  config = config_of(
    eval__stretch=word,
    data__eval_lengths=(4 * T,),
    model__vocab_size=67,
    model__opts__rope__rope_theta=500.0,
    model__opts__rope__fraction=0.5,
  )
  assert config.model_at(T) == config.model
  longer = config.model_at(4 * T)
  assert longer.position == word
  own = longer.opts[word]
  assert own.rope_theta == 500.0 and own.fraction == 0.5
  expected = {
    # Of the dynamic ones the length itself is the stretch.
    "factor": 1.0 if issubclass(POSITIONS[word], DynamicNTK) else 4.0,
    "original_len": T,
    "window": T // 2,
  }
  known = {key for key in expected if hasattr(own, key)}
  assert known
  for key in known:
    assert getattr(own, key) == expected[key]
  params = lm.init(config.model, jax.random.key(0))
  tokens = jnp.asarray(np.random.default_rng(0).integers(0, 67, (1, 4 * T)))
  positions, segments = jnp.arange(4 * T)[None], jnp.ones_like(tokens)

  def logits(model):
    output = lm.apply(model, params, tokens, positions, segments)
    return np.asarray(output.logits())

  # Weights are drawn with a small deviation: fp32 keeps seven digits of it.
  assert np.abs(logits(longer) - logits(config.model)).max() > 1e-4


REFUSED = (
  ({"eval__stretch": "yarm"}, r"eval.stretch='yarm' is no form of rope.*yarn"),
  ({"eval__stretch": "alibi"}, r"eval.stretch='alibi' is no form of rope"),
  (
    {"eval__stretch": "yarn", "model__position": "alibi"},
    r"eval.stretch='yarn' .* model.position='alibi'",
  ),
  (
    {"eval__stretch": "yarn"},
    r"eval.stretch='yarn' is of rows longer than data.seq_len=32.*eval_lengths",
  ),
  (
    {"eval__stretch": "yarn", "data__eval_lengths": (16,)},
    r"eval.stretch='yarn' is of rows longer than data.seq_len=32",
  ),
  ({"data__eval_lengths": (-1,)}, r"data.eval_lengths=\(-1,\) holds -1"),
  (
    {"data__eval_lengths": (256,)},
    r"data.eval_lengths=256 is longer than the context model.max_len=128",
  ),
)


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_what_cannot_be_is_refused_in_a_line(config_of, changes, message):
  with pytest.raises(UserError, match=message):
    config_of(**changes)
