"""Generation gives the tokens of transformers' `generate`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from test_llama import Ids, llama
from transformers.generation import logits_process as theirs

from ablax.infer.decoding import beam
from ablax.infer.filters import Chain, Seen, apply_filters
from ablax.infer.sampling import Sampling, generate

PROVES = (
  "decoding:beam",
  "decoding:sample",
  "filter:guidance_scale",
  "filter:repetition_penalty",
  "filter:temperature",
  "filter:top_k",
  "filter:top_p",
  "filter:min_p",
  "filter:typical_p",
  "filter:epsilon_cutoff",
  "filter:eta_cutoff",
  "filter:logit_bias",
)
FORBIDDEN = [0, 1]  # padding and BOS
applied = jax.jit(apply_filters, static_argnums=0)


@pytest.fixture(scope="module")
def models(model_config):
  config = model_config(
    d_model=48,
    n_layers=2,
    n_kv_heads=2,
    ff_dim=80,
    vocab_size=61,
    norm_eps=1e-5,
    init_scale=3.0,
    tie_embeddings=False,
    opts={"rope.rope_theta": 500.0},
  )
  return (config, *llama(config))


@pytest.fixture(scope="module")
def prompts():
  rng = np.random.default_rng(0)
  return [rng.integers(3, 61, n).tolist() for n in (9, 25, 1)]


def ours(models, prompts, options=None, decoding="sample", **settings):
  """Tokens of each prompt, one prompt after the other."""
  config, params, _ = models
  found = generate(
    config,
    params,
    Ids(),
    [" ".join(map(str, ids)) for ids in prompts],
    Sampling(**settings),
    decoding=decoding,
    options=options,
  )
  return found


def from_transformers(model, ids, **arguments):
  """The tokens after a prompt; cut behind the end."""
  output = model.generate(
    torch.tensor([[1, *ids]]),
    suppress_tokens=FORBIDDEN,
    do_sample=False,
    return_dict_in_generate=True,
    output_scores=True,
    **arguments,
  )
  rows = output.sequences[:, 1 + len(ids) :].tolist()
  return [row[: row.index(2) + 1] if 2 in row else row for row in rows], output


@pytest.mark.parametrize(
  "settings",
  [
    {"repetition_penalty": 1.7},
    {"guidance_scale": 2.5, "repetition_penalty": 1.3},
  ],
  ids="+".join,
)
def test_greedy_decoding_gives_the_same_tokens(models, prompts, settings):
  arguments = dict(settings)
  if "guidance_scale" in settings:
    arguments["negative_prompt_ids"] = torch.tensor([[1]])
  found = ours(models, prompts, temperature=0, max_tokens=20, **settings)
  for ids, completion in zip(prompts, found, strict=True):
    (expected,), _ = from_transformers(
      models[2], ids, max_new_tokens=20, **arguments
    )
    assert list(completion.tokens) == expected


def test_a_negative_prompt_is_that_of_transformers(models, prompts):
  (found,) = ours(
    models,
    prompts[:1],
    temperature=0,
    max_tokens=20,
    guidance_scale=1.8,
    negative_prompt="7 8 9 10",
  )
  (expected,), _ = from_transformers(
    models[2],
    prompts[0],
    max_new_tokens=20,
    guidance_scale=1.8,
    negative_prompt_ids=torch.tensor([[1, 7, 8, 9, 10]]),
  )
  assert list(found.tokens) == expected


@pytest.mark.parametrize("early_stopping", [False, True, "never"])
@pytest.mark.parametrize("length_penalty", [1.0, 0.0, -1.5, 2.5])
def test_beams_are_the_same(models, prompts, length_penalty, early_stopping):
  words = {False: "no", True: "yes", "never": "never"}
  options = beam.Options(
    beams=4,
    length_penalty=length_penalty,
    early_stopping=words[early_stopping],
  )
  # The end made likely, so that beams end at many lengths.
  bias = 4.0
  found = ours(
    models,
    prompts,
    options,
    "beam",
    n=4,
    max_tokens=14,
    logit_bias={2: bias},
    repetition_penalty=1.2,
  )
  lengths = set()
  for i, ids in enumerate(prompts):
    expected, output = from_transformers(
      models[2],
      ids,
      num_beams=4,
      num_return_sequences=4,
      max_new_tokens=14,
      length_penalty=length_penalty,
      early_stopping=early_stopping,
      sequence_bias=[[[2], bias]],
      repetition_penalty=1.2,
    )
    mine = found[4 * i : 4 * i + 4]
    assert [list(c.tokens) for c in mine] == expected
    # fp32 sums in another order, of log-probabilities of size 10.
    assert [c.score for c in mine] == pytest.approx(
      output.sequences_scores.tolist(), rel=2e-5
    )
    lengths |= set(map(len, expected))
  assert len(lengths) > 2 or early_stopping == "never"


WARPERS = {
  "temperature": theirs.TemperatureLogitsWarper,
  "top_k": theirs.TopKLogitsWarper,
  "top_p": theirs.TopPLogitsWarper,
  "min_p": theirs.MinPLogitsWarper,
  "typical_p": theirs.TypicalLogitsWarper,
  "epsilon_cutoff": theirs.EpsilonLogitsWarper,
  "eta_cutoff": theirs.EtaLogitsWarper,
}


@pytest.mark.parametrize(
  "settings",
  [
    {"temperature": 0.6},
    {"top_k": 1},
    {"top_k": 20},
    {"top_p": 0.3},
    {"top_p": 0.95},
    {"min_p": 0.02},
    {"min_p": 0.4},
    {"typical_p": 0.2},
    {"typical_p": 0.9},
    {"epsilon_cutoff": 3e-3},
    {"eta_cutoff": 1e-2},
    {"temperature": 1.4, "top_k": 40, "top_p": 0.8, "min_p": 0.05},
    {"temperature": 0.8, "typical_p": 0.7, "eta_cutoff": 1e-2},
  ],
  ids=lambda settings: "+".join(f"{k}={v}" for k, v in settings.items()),
)
def test_filters_keep_what_transformers_keeps(settings):
  rng = np.random.default_rng(4)
  # Sharp and flat distributions.
  spread_B1 = np.linspace(0.3, 5, 64)[:, None]
  logits_BV = (rng.normal(size=(64, 301)) * spread_B1).astype(np.float32)
  chain = Chain.of(Sampling(**settings), 301, draws=True)
  seen = Seen(jnp.array(logits_BV))
  found_BV = np.asarray(
    applied(chain.words, chain.values, jnp.ones((1, 301), bool), seen)
  )
  expected = torch.tensor(logits_BV)
  for word in chain.words:
    expected = WARPERS[word](settings[word])(None, expected)
  expected_BV = expected.numpy()
  np.testing.assert_array_equal(np.isinf(found_BV), np.isinf(expected_BV))
  kept_BV = np.isfinite(found_BV)
  assert not kept_BV.all() or "temperature" in settings
  # A division in another order.
  np.testing.assert_allclose(found_BV[kept_BV], expected_BV[kept_BV], rtol=3e-7)
