"""Generation gives the tokens of transformers' `generate`."""

import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from test_llama import Ids, llama
from transformers import GenerationConfig, PreTrainedTokenizerFast
from transformers.generation.stopping_criteria import StopStringCriteria

from ablax.data.tokenizers import TOKENIZERS
from ablax.infer.decoding import beam
from ablax.infer.filters import Chain, Seen, apply_filters
from ablax.infer.sampling import Sampling, generate
from ablax.infer.text import Growing

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
  "feature:stop_texts",
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


RANGES = {
  "repetition_penalty": (0.7, 1.7),
  "temperature": (0.3, 2.0),
  "top_k": (3, 50),
  "top_p": (0.5, 0.99),
  "min_p": (0.001, 0.1),
  "typical_p": (0.5, 0.99),
  "epsilon_cutoff": (1e-4, 2e-2),
  "eta_cutoff": (1e-4, 2e-2),
}


@pytest.mark.parametrize(
  "words",
  [
    tuple(RANGES),
    ("temperature", "top_k", "top_p"),
    ("top_p", "typical_p", "eta_cutoff"),
    ("min_p", "typical_p", "epsilon_cutoff"),
    ("top_k", "typical_p"),
    ("top_k", "epsilon_cutoff"),
    ("top_k", "eta_cutoff"),
  ],
  ids="+".join,
)
def test_filters_keep_what_transformers_keeps_in_its_own_order(models, words):
  rng = np.random.default_rng(4)
  B, V, n_prompt = 4, 61, 5
  for _ in range(40):
    settings = {word: float(rng.uniform(*RANGES[word])) for word in words}
    if "top_k" in settings:
      settings["top_k"] = int(settings["top_k"])
    bias = {int(rng.integers(V)): float(3 * rng.normal())}
    asked = GenerationConfig(
      do_sample=True,
      **{"temperature": 1.0, "top_k": 0, "top_p": 1.0, **settings},
    )
    asked.sequence_bias = [[[token], value] for token, value in bias.items()]
    asked._eos_token_tensor = None
    # Its order, and not ours, is what it applies.
    processors = models[2]._get_logits_processor(
      generation_config=asked,
      input_ids_seq_length=n_prompt,
      encoder_input_ids=None,
      prefix_allowed_tokens_fn=None,
      logits_processor=[],
      device="cpu",
      model_kwargs={},
      negative_prompt_ids=None,
      negative_prompt_attention_mask=None,
    )
    spread = rng.uniform(0.5, 4)  # sharp and flat distributions
    logits_BV = (rng.normal(size=(B, V)) * spread).astype(np.float32)
    ids_BT = rng.integers(0, V, (B, 9))
    expected_BV = processors(
      torch.tensor(ids_BT), torch.tensor(logits_BV.copy())
    ).numpy()

    prompt_BV = np.zeros((B, V), bool)
    counts_BV = np.zeros((B, V), np.int32)
    for b, ids in enumerate(ids_BT):
      prompt_BV[b, ids[:n_prompt]] = True
      np.add.at(counts_BV[b], ids[n_prompt:], 1)
    chain = Chain.of(Sampling(**settings, logit_bias=bias), V, draws=True)
    seen = Seen(
      jnp.array(logits_BV),
      prompt_BV=jnp.array(prompt_BV),
      counts_BV=jnp.array(counts_BV),
    )
    found_BV = np.asarray(
      applied(chain.words, chain.values, jnp.ones((1, V), bool), seen)
    )
    shown = f"{settings} {bias}"
    kept_BV = np.isfinite(expected_BV)
    np.testing.assert_array_equal(np.isfinite(found_BV), kept_BV, shown)
    # Up to three roundings, of a product, a division and a sum.
    np.testing.assert_allclose(
      found_BV[kept_BV], expected_BV[kept_BV], 1e-6, 1e-6, err_msg=shown
    )


def test_stop_texts_end_where_transformers_ends(tmp_path):
  words = [
    "naïve café",
    "今天天气很好。",
    "日本 é 🙂",
    "the end of it",
    "🙂🙃 a\n\nb",
  ]
  rng = random.Random(1)
  texts = [" ".join(rng.choices(words, k=20)) for _ in range(40)]
  kind, options = TOKENIZERS["byte_bpe"], TOKENIZERS.options("byte_bpe")
  tokenizer = kind.train(texts, 300, options())
  tokenizer.save(tmp_path)
  file = str(tmp_path / "tokenizer.json")
  theirs = PreTrainedTokenizerFast(tokenizer_file=file)
  n_ended = 0
  for text in (t[:80] for t in texts):
    # Encoded in pieces, so that a token's borders are anywhere.
    starts = range(0, 80, rng.randint(3, 9))
    pieces = [text[i : i + starts.step] for i in starts]
    ids = [i for piece in pieces for i in tokenizer.encode(piece)]
    at = rng.randrange(70)
    stop = text[at : at + rng.randint(1, 5)]
    growing = Growing(tokenizer, (stop,), 10**9, "length")
    criterion = StopStringCriteria(theirs, [stop])
    for n, token in enumerate(ids, 1):
      growing.push(token, 0.0)
      ends = bool(criterion(torch.tensor([ids[:n]]), None)[0])
      assert ends == (growing.finish == "stop"), (stop, text, n)
      if ends:
        n_ended += 1
        break
  assert n_ended == len(texts)
