"""`generate`: what is drawn, what it depends on, and what is refused."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ablax.errors import UserError
from ablax.infer.decoding import beam, sample
from ablax.infer.sampling import Sampling, generate, score
from ablax.models.lm import apply, param_specs
from ablax.models.mixers import MIXERS, Mixer
from ablax.models.param import path_of
from ablax.parallel.mesh import MeshConfig, make_mesh
from ablax.parallel.rules import Layout

PROVES = ("decoding:sample",)
GREEDY = {"temperature": 0.0, "max_tokens": 9}


@functools.partial(jax.jit, static_argnums=0)
def forward(config, params, tokens_BT):
  return apply(config, params, tokens_BT).logits()


@pytest.fixture
def logits_after(model, letters):
  """Logits of the token after a text, and after each of the tokens."""

  def logits_after(text, tokens=()):
    ids = [1, *letters().encode(text)]
    return forward(*model, jnp.array([[*ids, *tokens]]))[0, len(ids) - 1 :]

  return logits_after


def likeliest_allowed(logits_TV):
  return (2 + logits_TV[:, 2:32].argmax(-1)).tolist()


def test_tokens_are_drawn_from_the_filtered_distribution(run, logits_after):
  n = 1500
  completions = run(["ab"], temperature=0.8, top_k=6, max_tokens=1, n=n, seed=1)
  drawn = [c.tokens[0] for c in completions]
  logits_V = np.full(54, -np.inf)
  logits_V[2:32] = logits_after("ab")[0, 2:32]
  logits_V[logits_V < np.sort(logits_V)[-6]] = -np.inf
  p_V = np.exp(logits_V / 0.8) / np.exp(logits_V / 0.8).sum()
  n_V = np.bincount(drawn, minlength=54)
  assert set(np.flatnonzero(n_V)) == set(np.flatnonzero(p_V))
  expected = n * p_V[p_V > 0]
  chi2 = ((n_V[p_V > 0] - expected) ** 2 / expected).sum()
  # Five degrees of freedom: above 20.5 once in a thousand seeds.
  assert chi2 < 20.5


def test_different_prompts_have_independent_draws(run):
  n = 700
  hot = {"temperature": 1e4, "top_k": 54, "max_tokens": 1, "n": n}
  both = [c.tokens[0] for c in run(["a", "b"], **hot)]
  same = np.mean(np.array(both[:n]) == np.array(both[n:]))
  # At this temperature each of 30 tokens has one chance in 30; 4 deviations.
  assert abs(same - 1 / 30) < 4 * np.sqrt(1 / 30 * 29 / 30 / n)


def test_padding_bos_and_ids_without_text_are_never_sampled(run, letters):
  hot = run(["a"], temperature=50.0, top_k=54, max_tokens=30, n=16)
  drawn = {t for c in hot for t in c.tokens}
  assert drawn == set(range(2, letters().vocab_size))


def test_one_token_may_be_both_padding_and_the_end(run, letters):
  (found,) = run(
    ["abc"], letters(pad_id=2), temperature=9.0, top_k=54, max_tokens=32
  )
  assert found.finish == "eos" and found.tokens[-1] == 2


def test_logprobs_are_those_of_the_training_forward(run, model, letters):
  config, params = model
  prompts = ["", "a", "hello é日", "x" * 32]
  # Filters and temperature must not show in them.
  found = run(prompts, temperature=0.6, top_k=6, max_tokens=17)
  for prompt, completion in zip(prompts, found, strict=True):
    ids = [1, *letters().encode(prompt), *completion.tokens]
    n = len(completion.tokens)
    scored = score(config, params, jnp.array([ids]))[0, -n:]
    # fp32 sums in another order: about 1e-6 on logits of size 1.
    np.testing.assert_allclose(completion.logprobs, scored, atol=1e-5)


def test_a_completion_has_the_same_bits_in_any_batch(run):
  settings = {"max_tokens": 20, "seed": 7}
  prompts = ["one", "two", "", "z" * 50, "é", "q" * 40, "two"]
  whole = run(prompts, **settings)
  assert whole[1] == whole[6]
  orders = [(3,), (0, 1), (6, 5, 4, 3, 2, 1, 0), (1, 1, 1, 1, 1, 3, 0)]
  for order in orders:
    found = run([prompts[i] for i in order], **settings)
    # Logprobs too: every bit, not only the same draws.
    assert found == [whole[i] for i in order]
  several = run(prompts[:3], n=3, **settings)
  assert several[::3] == whole[:3]
  assert len({c.tokens for c in several}) == 9


def test_the_seed_changes_the_draw(run):
  settings = {"max_tokens": 20}
  one, again = run(["a"], **settings), run(["a"], **settings)
  assert one == again != run(["a"], seed=1, **settings)


def test_greedy_takes_the_likeliest_allowed_token(run, logits_after):
  tokens = run(["abc"], **GREEDY)[0].tokens
  assert list(tokens) == likeliest_allowed(logits_after("abc", tokens[:-1]))


@pytest.mark.parametrize("decoding", ["sample", "beam"])
def test_penalties_count_as_the_output_grows(
  run, logits_after, letters, decoding
):
  settings = {
    "repetition_penalty": 1.3,
    "frequency_penalty": 1.5,
    "presence_penalty": 0.5,
    "max_tokens": 12,
  }
  # One beam is greedy, with log-probabilities in place of logits.
  how = {"temperature": 0}
  if decoding == "beam":
    how = {"decoding": "beam", "options": beam.Options(beams=1)}
  text = "mh"
  (found,) = run([text], **settings, **how)
  prompt = {1, *letters().encode(text)}
  logits_TV = logits_after(text, found.tokens[:-1])
  if decoding == "beam":
    logits_TV = jax.nn.log_softmax(logits_TV)
  expected = []
  for i, logits_V in enumerate(np.array(logits_TV, np.float64)):
    output = found.tokens[:i]
    for v in prompt | set(output):
      logits_V[v] *= 1.3 if logits_V[v] < 0 else 1 / 1.3
    for v in set(output):
      logits_V[v] -= 1.5 * output.count(v) + 0.5
    expected += likeliest_allowed(logits_V[None])
  assert list(found.tokens) == expected
  # The prompt's last token has come up, and was not penalised for the prompt.
  assert found.tokens[0] == letters().encode(text)[-1]


def test_ids_are_a_prompt_as_they_are(run, letters):
  text, ids = run(["abc", [1, *letters().encode("abc")]], **GREEDY)
  assert text == ids
  for bad, message in (([], "is empty"), ([1, 99], "holds 99")):
    with pytest.raises(UserError, match=message):
      run([bad])


def test_end_of_text_ends_a_completion_while_others_go_on(run, letters):
  long, other = run(["abc", "q"], **GREEDY)
  eos = next(t for t in long.tokens if t not in other.tokens)
  seen = []
  ended, still = run(
    ["abc", "q"],
    letters(eos_id=eos),
    on_text=lambda i, text: seen.append((i, text)),
    **GREEDY,
  )
  n = long.tokens.index(eos) + 1
  assert ended.tokens == long.tokens[:n] and ended.finish == "eos"
  assert still == other and still.finish == "length"
  for i, completion in enumerate([ended, still]):
    assert "".join(t for j, t in seen if i == j) == completion.text


def test_a_token_that_begins_and_ends_texts_can_end_one(run, letters):
  tokenizer = letters(pad_id=1, bos_id=1, eos_id=1)
  drawn = [run(["日"], tokenizer, max_tokens=40, seed=s)[0] for s in range(5)]
  assert any(d.finish == "eos" and d.tokens[-1] == 1 for d in drawn)


def test_a_stop_text_is_cut_and_ends_the_completion(run):
  settings = {"max_tokens": 20, "seed": 0}
  whole = run(["日"], **settings)[0]
  stop = whole.text[7:10]
  seen = []
  for on_text in (None, lambda _, t: seen.append(t)):
    (cut,) = run(["日"], stop=("no such", stop), on_text=on_text, **settings)
    assert cut.finish == "stop"
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.tokens == whole.tokens[: len(cut.tokens)]
    assert cut.logprobs == whole.logprobs[: len(cut.tokens)]
  assert "".join(seen) == cut.text


def test_a_control_token_ends_a_completion_by_its_name(run, letters):
  settings = {"max_tokens": 20, "seed": 7}
  control = letters().vocab_size
  tokenizer = letters(vocab_size=control + 1, special_tokens={"<end>": control})
  biased = settings | {"logit_bias": {control: 3.0}}
  (free,) = run(["日"], tokenizer, **biased)
  assert free.tokens.count(control) > 1
  (cut,) = run(["日"], tokenizer, stop=("<end>",), **biased)
  assert cut.finish == "stop" and cut.tokens.index(control) + 1 == len(
    cut.tokens
  )
  assert cut.tokens == free.tokens[: len(cut.tokens)]
  assert free.text.startswith(cut.text)


def test_the_whole_context_is_used_from_any_length(run, model):
  config, _ = model
  lengths = (32, 33, 34, 64, 65, 94)
  found = run(["a" * (n - 1) for n in lengths], max_tokens=200, seed=11)
  for n, completion in zip(lengths, found, strict=True):
    if completion.finish == "context":
      assert n + len(completion.tokens) == config.max_len
    else:
      assert completion.finish == "eos"
  assert [c.finish for c in found].count("context") > 3


def test_a_prompt_that_fills_the_context_is_refused(run, model):
  config, _ = model
  with pytest.raises(UserError, match=r"96 tokens.*model\.max_len=96.*shorten"):
    run(["a" * (config.max_len - 1)])


def test_a_negative_prompt_that_is_too_long_is_named(run):
  with pytest.raises(UserError, match=r"the negative_prompt 'aaa.* has 97 tok"):
    run(["a"], guidance_scale=2, negative_prompt="a" * 96)


def test_one_text_in_place_of_a_list_is_refused(run):
  with pytest.raises(UserError, match=r"prompts='def ' must be a list.*'def '"):
    run("def ")


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"top_k": 2.5}, "top_k=2.5 must be a whole number"),
    ({"n": 1.5}, "n=1.5 must be a whole number"),
    ({"seed": True}, "seed=True must be a whole number"),
    ({"temperature": "0.5"}, "temperature='0.5' must be a number"),
    ({"regex": 3}, "regex=3 must be a text or None"),
    ({"stop": [1]}, "stop=.1. must be a tuple of texts"),
    ({"stop": (1,)}, "stop=.1,. holds 1; give texts alone"),
    ({"logit_bias": {"5": 1}}, "a key must be a token's id"),
    ({"filters": {5: 1}}, "a key must be a filter's name"),
  ],
)
def test_a_value_of_another_type_is_refused(unchecked, settings, message):
  with pytest.raises(UserError, match=message):
    Sampling(**settings)
  assert Sampling(top_k=np.int32(3), top_p=np.float32(0.5)).top_k == 3


def test_an_empty_prompt_is_the_beginning_of_text_alone(run, logits_after):
  tokens = run([""], **GREEDY)[0].tokens
  assert [tokens[0]] == likeliest_allowed(logits_after(""))


def test_no_prompts_give_no_completions(run):
  assert run([]) == []


def test_a_mixer_that_is_not_causal_is_refused(
  model_config, letters, monkeypatch
):
  class Both(Mixer):
    causal = False

  monkeypatch.setitem(MIXERS._registered, "both", Both)
  config = model_config(mixer="both")
  with pytest.raises(UserError, match="'both' is not causal"):
    generate(config, {}, letters(), ["a"], Sampling())


def test_a_sweep_over_settings_compiles_once(run):
  def settings(temperature, top_k, seed):
    settings = {"temperature": temperature, "top_k": top_k, "seed": seed}
    return settings | {"max_tokens": 20}

  run(["abc"], **settings(0.9, 8, 0))
  compiled = sample._draw._cache_size()
  for setting in itertools.product((0.5, 1.5), (4, 9), (1, 2)):
    run(["abcdefg", "a", "b"], stop=("zz",), **settings(*setting))
  run(["abc"], on_text=lambda *_: None, **settings(0.7, 5, 3))
  assert sample._draw._cache_size() == compiled


def test_parameters_on_a_mesh_give_the_same_text(model, letters):
  config, params = model
  mesh = make_mesh(MeshConfig(1, 4, 2, 1, 1, 1, "fsdp"))
  layout = Layout.of(mesh, "fsdp")
  shardings = jax.tree_util.tree_map_with_path(
    lambda path, spec: layout.param(path_of(path), spec.shape, spec.axes),
    param_specs(config),
  )
  placed = jax.device_put(params, shardings)
  one, many = (
    generate(config, p, letters(), ["abc"], Sampling(max_tokens=12))[0]
    for p in (params, placed)
  )
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
    ({"min_p": 1.1}, "min_p=1.1 must be"),
    ({"typical_p": 0}, "typical_p=0 must be"),
    ({"epsilon_cutoff": 1.0}, "epsilon_cutoff=1.0 must be"),
    ({"eta_cutoff": -1.0}, "eta_cutoff=-1.0 must be"),
    ({"repetition_penalty": 0}, "repetition_penalty=0 must be"),
    ({"frequency_penalty": 2.5}, "frequency_penalty=2.5 must be"),
    ({"presence_penalty": -3}, "presence_penalty=-3 must be"),
    ({"guidance_scale": float("inf")}, "guidance_scale=inf must be"),
    ({"logit_bias": {3: float("inf")}}, "logit_bias={3: inf} must be"),
    ({"negative_prompt": "a"}, "negative_prompt='a' has no effect"),
    ({"regex": "a", "grammar": "b"}, "regex and grammar are two"),
    ({"max_tokens": 0}, "max_tokens=0 must be at least 1"),
    ({"n": 0}, "n=0 must be at least 1"),
    ({"stop": ("a", "")}, "empty"),
    ({"seed": -1}, "seed=-1 must be"),
  ],
)
def test_settings_without_meaning_are_refused(bad, message):
  with pytest.raises(UserError, match=message):
    Sampling(**bad)


@pytest.mark.parametrize(
  ("bad", "message"),
  [
    ({"logit_bias": {54: 1.0}}, r"logit_bias={54: 1.0} names no token"),
    ({"filters": {"top_p": 0.5}}, "use top_p=0.5"),
    ({"filters": {"top_q": 0.5}}, "did you mean 'top_k'|did you mean 'top_p'"),
    ({"decoding": "bean"}, "did you mean 'beam'"),
    ({"decoding": "beam", "top_p": 0.5}, "top_p=0.5 shapes a draw"),
    ({"n_rows": 0}, "n_rows=0 must be at least 1"),
  ],
)
def test_settings_that_do_not_fit_are_refused(run, bad, message):
  with pytest.raises(UserError, match=message):
    run(["a"], **bad)
