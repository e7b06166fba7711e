"""Sampling: which token, when to stop, and what a reader sees of it."""

import dataclasses
import functools
import string

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ablax.errors import UserError
from ablax.infer import sampling as sampling_lib
from ablax.infer.sampling import Sampling, filter_logits, generate, score
from ablax.models.lm import apply, init, param_specs
from ablax.models.mixers import MIXERS, Mixer
from ablax.models.param import path_of
from ablax.parallel.mesh import MeshConfig, make_mesh
from ablax.parallel.rules import Layout

LETTERS = string.ascii_lowercase + " é日"
GREEDY = Sampling(temperature=0.0, max_tokens=9)


@dataclasses.dataclass(frozen=True)
class Letters:
  """One id a letter, of one to three bytes."""

  pad_id: int = 0
  bos_id: int = 1
  eos_id: int = 2
  vocab_size: int = 3 + len(LETTERS)

  def encode(self, text):
    return [3 + LETTERS.index(letter) for letter in text]

  def token_bytes(self, token):
    if token < 3:
      return b""
    return LETTERS[token - 3].encode()


@pytest.fixture(scope="module")
def model(model_config):
  # Untied: the logits of an untrained model are about N(0, 1).
  config = model_config(vocab_size=54, tie_embeddings=False)
  return config, init(config, jax.random.key(3))


def run(model, prompts, sampling=GREEDY, tokenizer=None, **kwargs):
  return generate(*model, tokenizer or Letters(), prompts, sampling, **kwargs)


@functools.partial(jax.jit, static_argnums=0)
def forward(config, params, tokens_BT):
  return apply(config, params, tokens_BT).logits()


def logits_after(model, text, tokens=()):
  """Logits of the token after `text`, and after each of `tokens`."""
  ids = [1, *Letters().encode(text)]
  return forward(*model, jnp.array([[*ids, *tokens]]))[0, len(ids) - 1 :]


def likeliest_allowed(logits_TV):
  return (2 + logits_TV[:, 2 : Letters().vocab_size].argmax(-1)).tolist()


def kept_by_loops(logits, temperature, top_k, top_p):
  """The tokens that may be sampled, from the definitions."""
  logits = logits.astype(np.float64) / temperature
  V = len(logits)
  kept = set(range(V))
  if top_k:
    kept = {v for v in kept if sum(logits > logits[v]) < top_k}
  p = {v: np.exp(logits[v]) for v in kept}
  total = sum(p.values())

  def more_likely(v):
    return sum(p[u] for u in kept if logits[u] > logits[v]) / total

  return {v for v in kept if top_p == 1 or more_likely(v) < top_p}


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(
  ("temperature", "top_k", "top_p"),
  [
    (1.0, 0, 1.0),
    (0.7, 5, 1.0),
    (1.3, 0, 0.63),
    (0.9, 7, 0.41),
    (2.0, 1, 1.0),
    (1.0, 0, 1e-6),
    (1.0, 99, 0.97),
  ],
)
def test_filtering_equals_its_definition(ties, temperature, top_k, top_p):
  rng = np.random.default_rng(0)
  logits_BV = rng.normal(size=(5, 31)).astype(np.float32) * 2
  if ties:
    logits_BV = np.round(logits_BV)
  filtered_BV = filter_logits(jnp.array(logits_BV), temperature, top_k, top_p)
  for logits_V, filtered_V in zip(logits_BV, filtered_BV, strict=True):
    kept = kept_by_loops(logits_V, temperature, top_k, top_p)
    assert set(np.flatnonzero(np.isfinite(filtered_V))) == kept
    for v in kept:
      assert filtered_V[v] == pytest.approx(logits_V[v] / temperature, 1e-6)


def test_temperature_zero_keeps_the_first_of_the_likeliest():
  filtered = filter_logits(jnp.array([[0.0, 2.0, 2.0, 1.0]]), 0.0, 0, 1.0)
  assert np.isfinite(filtered).tolist() == [[False, True, False, False]]


def test_first_tokens_are_drawn_from_the_filtered_distribution(model):
  B, sampling = 2000, Sampling(temperature=0.8, top_k=6, max_tokens=1, seed=1)
  drawn = [c.tokens[0] for c in run(model, ["ab"] * B, sampling)]
  logits_BV = logits_after(model, "ab")
  allowed_BV = logits_BV.at[:, [0, 1]].set(-jnp.inf).at[:, 32:].set(-jnp.inf)
  p_V = jax.nn.softmax(filter_logits(allowed_BV, 0.8, 6, 1.0))[0]
  n_V = np.bincount(drawn, minlength=len(p_V))
  # A count has a standard deviation of sqrt(B p (1 - p)); 4 of them.
  assert np.all(np.abs(n_V - B * p_V) <= 4 * np.sqrt(B * p_V * (1 - p_V)))
  assert np.count_nonzero(n_V) == 6


def test_padding_bos_and_ids_without_text_are_never_sampled(model):
  hot = Sampling(temperature=50.0, max_tokens=60)
  drawn = {t for c in run(model, ["a"] * 30, hot) for t in c.tokens}
  assert drawn == set(range(2, Letters().vocab_size))


def test_logprobs_are_those_of_the_training_forward(model):
  config, params = model
  # Filters and temperature must not show in them.
  sampling = Sampling(temperature=0.6, top_k=4, top_p=0.9, max_tokens=17)
  prompts = ["", "a", "hello é日", "x" * 35]
  for prompt, completion in zip(
    prompts, run(model, prompts, sampling), strict=True
  ):
    ids = [1, *Letters().encode(prompt), *completion.tokens]
    n = len(completion.tokens)
    scored = score(config, params, jnp.array([ids]))[0, -n:]
    # fp32 sums in another order: about 1e-6 on logits of size 1.
    np.testing.assert_allclose(completion.logprobs, scored, atol=1e-5)


def test_a_continuation_does_not_depend_on_the_rest_of_the_batch(model):
  sampling = Sampling(max_tokens=25, seed=7)
  alone = run(model, ["one", "two"], sampling)
  # The long neighbour doubles the left padding.
  among = run(model, ["one", "two", "z" * 50, ""], sampling)
  assert [c.tokens for c in alone] == [c.tokens for c in among[:2]]


def test_seed_and_place_in_the_batch_change_the_draw(model):
  one, two = run(model, ["a", "a"], Sampling(max_tokens=20))
  other = run(model, ["a"], Sampling(max_tokens=20, seed=1))[0]
  again = run(model, ["a"], Sampling(max_tokens=20))[0]
  assert len({one.tokens, two.tokens, other.tokens}) == 3
  assert again.tokens == one.tokens


def test_greedy_takes_the_likeliest_allowed_token(model):
  tokens = run(model, ["abc"])[0].tokens
  logits_TV = logits_after(model, "abc", tokens[:-1])
  assert list(tokens) == likeliest_allowed(logits_TV)


def test_end_of_text_ends_a_completion_while_others_go_on(model):
  long, other = run(model, ["abc", "q"])
  eos = next(t for t in long.tokens if t not in other.tokens)
  seen = []
  ended, still = run(
    model,
    ["abc", "q"],
    tokenizer=Letters(eos_id=eos),
    on_text=lambda i, text: seen.append((i, text)),
  )
  n = long.tokens.index(eos) + 1
  assert ended.tokens == long.tokens[:n] and ended.finish == "eos"
  assert still == other and still.finish == "length"
  for i, completion in enumerate([ended, still]):
    assert "".join(t for j, t in seen if i == j) == completion.text


def test_a_token_that_begins_and_ends_texts_can_end_one(model):
  same = Letters(pad_id=1, bos_id=1, eos_id=1)
  drawn = [
    run(model, ["日"], Sampling(max_tokens=40, seed=seed), tokenizer=same)[0]
    for seed in range(5)
  ]
  assert any(d.finish == "eos" and d.tokens[-1] == 1 for d in drawn)


def test_a_stop_text_is_cut_and_ends_the_completion(model):
  whole = run(model, ["日"], Sampling(max_tokens=40, seed=5))[0]
  stop = whole.text[11:14]
  sampling = Sampling(max_tokens=40, seed=5, stop=("no such", stop))
  seen = []
  cut = run(model, ["日"], sampling, on_text=lambda _, t: seen.append(t))[0]
  assert cut.finish == "stop"
  assert cut.text == whole.text[: whole.text.index(stop)] == "".join(seen)
  assert cut.tokens == whole.tokens[: len(cut.tokens)]
  assert cut.logprobs == pytest.approx(whole.logprobs[: len(cut.tokens)])


@pytest.mark.parametrize("piece", [1, 2, 3, 5, 100])
@pytest.mark.parametrize(
  ("text", "stop", "kept"),
  [
    ("naïve 日本 café", (), "naïve 日本 café"),
    ("a 日本 b", ("本",), "a 日"),
    ("aab aaab", ("aaab",), "aab "),
    ("abcd", ("bcd", "c"), "ab"),  # "c" is whole before "bcd" is
    ("abcx", ("bcd", "abcde"), "abcx"),
    ("ends in a sto", ("stop",), "ends in a sto"),
  ],
)
def test_streams_whole_characters_and_nothing_of_a_stop(
  piece, text, stop, kept
):
  stream = sampling_lib._Stream(stop)
  data, shown = text.encode(), ""
  for i in range(0, len(data), piece):
    shown += stream.push(data[i : i + piece])
    assert kept.startswith(shown)
    if stream.finish:
      break
  else:
    shown += stream.push(b"", final=True)
  assert shown == stream.text == kept
  assert (stream.finish == "stop") == (kept != text)


def test_what_is_no_part_of_a_stop_text_is_shown_at_once():
  stream = sampling_lib._Stream(("stop",))
  assert [stream.push(b) for b in (b"a", b"s", b"to", b"ne")] == [
    "a",
    "",
    "",
    "stone",
  ]


def test_a_broken_character_at_the_end_is_replaced():
  stream = sampling_lib._Stream(())
  assert stream.push("é".encode()[:1]) == ""
  assert stream.push(b"", final=True) == "\N{REPLACEMENT CHARACTER}"


def test_generation_ends_at_the_context(model):
  config, _ = model
  prompt = "a" * (config.max_len - 4)  # and BOS: room for three
  full, short = run(
    model, [prompt, "b"], Sampling(temperature=0.0, max_tokens=5)
  )
  assert full.finish == "context" and len(full.tokens) == 3
  assert short.finish == "length" and len(short.tokens) == 5


def test_a_prompt_that_fills_the_context_is_refused(model):
  config, _ = model
  with pytest.raises(UserError, match=r"96 tokens.*model\.max_len=96.*shorten"):
    run(model, ["a" * (config.max_len - 1)])


def test_an_empty_prompt_is_the_beginning_of_text_alone(model):
  tokens = run(model, [""])[0].tokens
  assert [tokens[0]] == likeliest_allowed(logits_after(model, ""))


def test_no_prompts_give_no_completions(model):
  assert run(model, []) == []


def test_a_mixer_that_is_not_causal_is_refused(model_config, monkeypatch):
  class Both(Mixer):
    causal = False

  monkeypatch.setitem(MIXERS._registered, "both", Both)
  config = model_config(mixer="both")
  with pytest.raises(UserError, match="'both' is not causal"):
    run((config, {}), ["a"])


def test_prompts_of_similar_lengths_share_one_program(model):
  run(model, ["abc"])
  compiled = sampling_lib._advance._cache_size()
  run(model, ["abcdefg"], dataclasses.replace(GREEDY, seed=3, stop=("zz",)))
  assert sampling_lib._advance._cache_size() == compiled


def test_parameters_on_a_mesh_give_the_same_text(model):
  config, params = model
  mesh = make_mesh(MeshConfig(1, 4, 2, 1, 1, 1, "fsdp"))
  layout = Layout.of(mesh, "fsdp")
  shardings = jax.tree_util.tree_map_with_path(
    lambda path, spec: layout.param(path_of(path), spec.shape, spec.axes),
    param_specs(config),
  )
  placed = jax.device_put(params, shardings)
  sampling = Sampling(max_tokens=12)
  one, many = (run((config, p), ["abc"], sampling)[0] for p in (params, placed))
  assert one.tokens == many.tokens
  # fp32 sums over shards in another order.
  assert one.logprobs == pytest.approx(many.logprobs, abs=1e-5)


@pytest.mark.parametrize(
  ("bad", "message"),
  [
    ({"temperature": -0.1}, "temperature=-0.1 must be"),
    ({"temperature": float("nan")}, "temperature=nan must be"),
    ({"top_k": -1}, "top_k=-1 must be"),
    ({"top_p": 0.0}, r"top_p=0.0 must be in \(0, 1\]"),
    ({"top_p": 1.1}, "top_p=1.1 must be"),
    ({"max_tokens": 0}, "max_tokens=0 must be at least 1"),
    ({"stop": ("a", "")}, "empty"),
    ({"seed": -1}, "seed=-1 must be"),
  ],
)
def test_settings_without_meaning_are_refused(bad, message):
  with pytest.raises(UserError, match=message):
    Sampling(**bad)
