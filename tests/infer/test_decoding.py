"""Searches against slow ones, which have no state and no batch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ablax.errors import UserError
from ablax.infer.decoding import (
  DECODERS,
  beam,
  best_of_n,
  contrastive,
  diverse_beam,
  nbce,
)
from ablax.infer.sampling import Sampling, generate
from ablax.infer.text import Growing
from ablax.models.lm import apply

PROVES = (
  "decoding:beam",
  "decoding:best_of_n",
  "decoding:contrastive",
  "decoding:diverse_beam",
)
EOS, ALLOWED = 2, range(2, 32)
# fp32 sums in another order, added up over a dozen tokens.
ROUNDING = 1e-5


@functools.partial(jax.jit, static_argnums=0)
def _forward(config, params, tokens_BT):
  output = apply(config, params, tokens_BT)
  return jax.nn.log_softmax(output.logits())[0], output.hidden_BTD[0]


@pytest.fixture(scope="module")
def forward(model):
  """(log-probabilities of the next token, all hidden vectors) of ids."""

  @functools.cache
  def forward(ids):
    tokens = np.zeros((1, 32), np.int32)
    tokens[0, : len(ids)] = ids
    logprobs_TV, hidden_TD = _forward(*model, jnp.array(tokens))
    n = len(ids)
    return (
      np.asarray(logprobs_TV[n - 1], np.float64),
      np.asarray(hidden_TD[:n], np.float64),
    )

  return forward


def prompt_of(letters, text):
  return (1, *letters().encode(text))


def test_a_beam_as_wide_as_the_tree_finds_the_best_of_all(
  run, forward, letters
):
  options = beam.Options(beams=30, length_penalty=0.7)
  found = run(["ab"], decoding="beam", options=options, max_tokens=2, n=5)
  root = prompt_of(letters, "ab")
  scores = {}
  for first in ALLOWED:
    after = forward(root)[0][first]
    if first == EOS:
      scores[(first,)] = after
      continue
    logprobs_V = forward((*root, first))[0]
    for second in ALLOWED:
      scores[first, second] = (after + logprobs_V[second]) / 2**0.7
  best = sorted(scores, key=lambda tokens: -scores[tokens])[:5]
  assert [c.tokens for c in found] == best
  assert [c.score for c in found] == pytest.approx(
    [scores[tokens] for tokens in best], abs=ROUNDING
  )


def fours(items):
  return [items[i : i + 4] for i in range(0, len(items), 4)]


def slow_search(forward, root, beams, groups, penalty, max_tokens, eos):
  """Algorithm 1 of diverse beam search: groups of (score, tokens) lists."""
  width = beams // groups
  live = [[(0.0, ())] for _ in range(groups)]
  ended = [[] for _ in range(groups)]
  for _ in range(max_tokens):
    taken = []
    for g in range(groups):
      if len(ended[g]) == width and (
        not live[g] or live[g][0][0] / len(live[g][0][1]) <= min(ended[g])[0]
      ):
        live[g] = []
        continue
      options = []
      for score, tokens in live[g]:
        logprobs_V = forward((*root, *tokens))[0]
        for v in ALLOWED:
          new = score + logprobs_V[v] - penalty * taken.count(v)
          options.append((new, (*tokens, v)))
      options.sort(reverse=True)
      live[g] = []
      for rank, (score, tokens) in enumerate(options[: 2 * width]):
        if tokens[-1] != eos and len(tokens) < max_tokens:
          live[g].append((score, tokens))
        elif rank < width:
          ended[g].append((score / len(tokens), tokens))
      live[g] = live[g][:width]
      taken += [tokens[-1] for _, tokens in live[g]]
      ended[g] = sorted(ended[g], reverse=True)[:width]
  return ended


@pytest.mark.parametrize(("groups", "penalty"), [(2, 0.8), (4, 0.3), (1, 0.5)])
def test_diverse_beams_are_those_of_the_algorithm(
  run, forward, letters, groups, penalty
):
  options = diverse_beam.Options(
    beams=4, groups=groups, diversity_penalty=penalty
  )
  prompts = ["ab", "hello", "é"]
  settings = {"decoding": "diverse_beam", "options": options, "max_tokens": 8}
  settings["n"] = 4
  whole = run(prompts, **settings)
  lengths = set()
  # Tokens of good beams, so that some end early.
  for eos in (EOS, *{c.tokens[-1] for c in whole[::4]}):
    found = run(prompts, letters(eos_id=eos), **settings)
    for text, several in zip(prompts, fours(found), strict=True):
      root = prompt_of(letters, text)
      slow = slow_search(forward, root, 4, groups, penalty, 8, eos)
      in_turn = [
        best
        for turn in zip(*slow, strict=True)
        for best in sorted(turn, reverse=True)
      ]
      assert [c.tokens for c in several] == [tokens for _, tokens in in_turn]
      assert [c.score for c in several] == pytest.approx(
        [score for score, _ in in_turn], abs=ROUNDING
      )
    lengths |= {len(c.tokens) for c in found}
  assert len(lengths) > 1


def test_guidance_follows_each_beam(run, forward, letters):
  # transformers does not reorder the negative prompt's beams, so no oracle.
  found = run(
    ["ab", "hello"],
    decoding="beam",
    n=4,
    max_tokens=8,
    guidance_scale=1.5,
    negative_prompt="q",
  )
  without = prompt_of(letters, "q")
  for text, several in zip(["ab", "hello"], fours(found), strict=True):
    assert len({c.tokens for c in several}) == 4
    for c in several:
      total = 0.0
      for i, token in enumerate(c.tokens):
        p = forward((*prompt_of(letters, text), *c.tokens[:i]))[0][token]
        q = forward((*without, *c.tokens[:i]))[0][token]
        total += q + 1.5 * (p - q)
      assert c.score == pytest.approx(total / len(c.tokens), abs=ROUNDING)


def slow_contrastive(forward, root, k, alpha, max_tokens):
  """Equation 5, with every hidden vector computed anew."""
  tokens = []
  while len(tokens) < max_tokens and EOS not in tokens:
    ids = (*root, *tokens)
    logprobs_V, hidden_TD = forward(ids)
    p = {v: np.exp(logprobs_V[v]) for v in ALLOWED}
    total = sum(p.values())
    context = hidden_TD / np.linalg.norm(hidden_TD, axis=1, keepdims=True)
    scores = {}
    for v in sorted(p, key=lambda v: -p[v])[:k]:
      h = forward((*ids, v))[1][-1]
      nearest = (context @ h / np.linalg.norm(h)).max()
      scores[v] = (1 - alpha) * p[v] / total - alpha * nearest
    tokens.append(max(scores, key=lambda v: scores[v]))
  return tuple(tokens)


def test_contrastive_search_is_its_equation(run, forward, letters):
  prompts = ["ab", "hello", ""]
  for alpha in (0.6, 0.1):
    options = contrastive.Options(candidates=4, alpha=alpha)
    found = run(prompts, decoding="contrastive", options=options, max_tokens=10)
    assert [c.tokens for c in found] == [
      slow_contrastive(forward, prompt_of(letters, text), 4, alpha, 10)
      for text in prompts
    ]


def test_contrastive_search_without_penalty_is_greedy(run):
  options = contrastive.Options(candidates=4, alpha=0)
  prompts = ["ab", "hello", ""]
  found = run(prompts, decoding="contrastive", options=options, max_tokens=9)
  greedy = run(prompts, temperature=0, max_tokens=9)
  assert [c.tokens for c in found] == [c.tokens for c in greedy]
  for one, other in zip(found, greedy, strict=True):
    assert one.logprobs == pytest.approx(other.logprobs, abs=ROUNDING)


@pytest.mark.parametrize(
  ("decoding", "settings"),
  [("sample", {"temperature": 0}), ("contrastive", {})],
)
def test_the_limit_changes_no_token_before_it(run, decoding, settings):
  # 32 fills a block of slots to the last.
  prompts = [first + second for first in "abcdefg" for second in "hijklm"]
  short, long = (
    run(prompts, decoding=decoding, max_tokens=n, **settings) for n in (32, 33)
  )
  assert [c.tokens for c in short] == [c.tokens[:32] for c in long]


def test_the_best_of_n_is_the_best_of_those_samples(run):
  settings = {"max_tokens": 12, "seed": 4}
  drawn = run(["abc", "q"], n=6, **settings)
  for rank_by, value in (
    ("mean", lambda c: np.mean(c.logprobs)),
    ("sum", lambda c: np.sum(c.logprobs)),
    (lambda prompt, c: -len(prompt + c.text), lambda c: -len(c.text)),
  ):
    options = best_of_n.Options(candidates=6, rank_by=rank_by)
    found = run(
      ["abc", "q"], decoding="best_of_n", options=options, n=2, **settings
    )
    for best, some in ((found[:2], drawn[:6]), (found[2:], drawn[6:])):
      expected = sorted(some, key=lambda c: -value(c))[:2]
      assert [c.tokens for c in best] == [c.tokens for c in expected]
      assert best[0].score >= best[1].score


@pytest.mark.parametrize("decoding", ["beam", "diverse_beam", "contrastive"])
def test_a_search_does_not_depend_on_the_batch(run, decoding):
  long = 40 if decoding == "beam" else 20  # another block, once
  prompts = ["ab", "hello", "é", "z" * long, ""]
  whole = run(prompts, decoding=decoding, max_tokens=8)
  assert run(prompts[::-1], decoding=decoding, max_tokens=8) == whole[::-1]
  assert run(prompts[2:3], decoding=decoding, max_tokens=8) == whole[2:3]


@pytest.mark.parametrize("decoding", ["beam", "contrastive"])
def test_stop_texts_end_a_search_and_are_not_shown(run, decoding):
  (whole,) = run(["ab"], decoding=decoding, max_tokens=8)
  stop = whole.text[3:5]
  seen = []
  (cut,) = run(
    ["ab"],
    decoding=decoding,
    max_tokens=8,
    stop=(stop,),
    on_text=lambda i, text: seen.append((i, text)),
  )
  assert stop not in cut.text
  assert "".join(text for _, text in seen) == cut.text
  if decoding == "contrastive":
    assert cut.finish == "stop"
    assert cut.text == whole.text[: whole.text.index(stop)]


@pytest.mark.parametrize(
  ("options", "message"),
  [
    (lambda: beam.Options(beams=0), "beams=0 must be"),
    (lambda: beam.Options(length_penalty=float("nan")), "length_penalty=nan"),
    (lambda: beam.Options(length_penalty=-1000), "must be in .-10, 10"),
    (lambda: beam.Options(beams=2.5), "beams=2.5 must be a whole number"),
    (lambda: diverse_beam.Options(groups="2"), "groups='2' must be a whole"),
    (lambda: contrastive.Options(alpha="1"), "alpha='1' must be a number"),
    (lambda: best_of_n.Options(rank_by=3), "rank_by=3 must be a text or a fun"),
    (lambda: diverse_beam.Options(beams=4, groups=3), "use a divisor of 4"),
    (lambda: diverse_beam.Options(diversity_penalty=-1), "penalty=-1 must"),
    (lambda: contrastive.Options(candidates=0), "candidates=0 must be"),
    (lambda: contrastive.Options(alpha=1.5), "alpha=1.5 must be"),
    (lambda: best_of_n.Options(candidates=0), "candidates=0 must be"),
    (lambda: best_of_n.Options(rank_by="max"), "rank_by='max' is not one of"),
  ],
)
def test_options_without_meaning_are_refused(unchecked, options, message):
  with pytest.raises(UserError, match=message):
    options()


@pytest.mark.parametrize("power", [-10, 10])
def test_the_utmost_length_penalties_rank_by_length(letters, power):
  options = beam.Options(beams=2, length_penalty=power)
  s = beam.Search(Growing(letters(), (), 10**5, "length"), 2, options)
  scores = [s._penalised(np.float32(-9.0), n) for n in (10**4, 10**5)]
  assert all(map(np.isfinite, scores)) and scores[0] != scores[1]


@pytest.mark.parametrize("power", [-1, 0])
def test_a_search_never_to_stop_goes_on_while_a_beam_may_be_best(
  letters, power
):
  options = beam.Options(beams=2, length_penalty=power, early_stopping="never")
  s = beam.Search(Growing(letters(), (), 50, "length"), 2, options)
  a, zeros = letters().encode("a")[0], np.zeros(4, np.int32)

  def advance(*scores):
    tokens = np.array([a, EOS, a, a])
    s.advance(np.float32(scores), zeros, tokens, np.zeros(4))

  advance(-0.1, -3.0, -4.0, -5.0)
  assert not s.done
  # Two are complete, of scores -3 and -3.5 * 2^-power. An open one only gets
  # worse where a longer one is no better, and is best where it stands.
  advance(-0.2, -3.5, -4.0, -5.0)
  assert not s.done
  advance(-8.0, -9.0, -10.0, -11.0)
  assert s.done


@pytest.mark.parametrize("decoding", DECODERS)
def test_a_model_that_has_diverged_is_named(model, letters, decoding):
  config, params = model
  params = jax.tree.map(lambda a: a * jnp.nan, params)
  sampling = Sampling(max_tokens=4)
  needed = {"options": nbce.Options(("a",))} if decoding == "nbce" else {}
  with pytest.raises(UserError, match="token 1 of the output are not finite"):
    generate(
      *(config, params, letters(), ["ab"], sampling),
      decoding=decoding,
      **needed,
    )


def test_options_of_another_decoding_are_refused(run):
  with pytest.raises(UserError, match="are not those of decoding=beam"):
    run(["a"], decoding="beam", options=contrastive.Options())


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"top_p": 0.5}, "top_p=0.5 shapes a draw, and temperature=0 draws nothi"),
    ({"n": 3}, "n=3: temperature=0 draws nothing"),
    ({"decoding": "best_of_n"}, "candidates=8: temperature=0 draws nothing"),
  ],
)
def test_greedy_decoding_ignores_nothing_in_silence(run, settings, message):
  with pytest.raises(UserError, match=message):
    run(["a"], temperature=0, **settings)


@pytest.mark.parametrize(
  ("decoding", "message"),
  [
    ("beam", "n=9 is more than beams=4"),
    ("diverse_beam", "n=9 is more than beams=4"),
    ("best_of_n", "n=9 is more than candidates=8"),
    ("contrastive", "n=9: decoding=contrastive draws nothing"),
  ],
)
def test_more_completions_than_are_searched_for_are_refused(
  run, decoding, message
):
  with pytest.raises(UserError, match=message):
    run(["a"], decoding=decoding, n=9)
