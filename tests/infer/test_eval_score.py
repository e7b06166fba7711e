"""Log-likelihoods in batches are those of each sequence alone."""

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ablax.errors import UserError
from ablax.infer import score
from ablax.infer.score import Row, Scorer, split, windows
from ablax.models.lm import apply
from ablax.models.mixers import MIXERS

MAX_LEN = 96  # of the model of conftest.py
LENGTHS = (1, 17, 33, 96)
full = jax.jit(apply, static_argnums=0)


@pytest.fixture(scope="module")
def scorer(model, letters):
  return Scorer(*model, letters(), n_rows=3)


def drawn(n, seed=0):
  return np.random.default_rng(seed + n).integers(3, 32, n).tolist()


def alone(model, ids):
  """By one full forward pass and a log-softmax in float64."""
  config, params = model
  logits_TV = full(config, params, jnp.array([ids[:-1]])).logits()[0]
  logits_TV = np.asarray(logits_TV, np.float64)
  top_T1 = logits_TV.max(-1, keepdims=True)
  norm_T = np.log(np.exp(logits_TV - top_T1).sum(-1)) + top_T1[:, 0]
  rows = np.arange(len(ids) - 1)
  return logits_TV[rows, ids[1:]] - norm_T, logits_TV.argmax(-1) == ids[1:]


def test_scores_are_those_of_each_sequence_alone(model, scorer):
  pairs = []
  for n in LENGTHS:
    ids = [1, *drawn(n)]
    n_context = 1 + n // 3
    pairs.append((ids[:n_context], ids[n_context:]))
  # The likeliest continuation, so that one is greedy.
  config, params = model
  likeliest = full(config, params, jnp.array([[1]])).logits()[0, 0].argmax()
  pairs.append(([1], [int(likeliest)]))
  scored = scorer.ids(pairs)
  for (context, continuation), found in zip(pairs, scored, strict=True):
    logprobs, best = alone(model, [*context, *continuation])
    n = len(continuation)
    # fp32's rounding of sums over 24 and 54 numbers, in another order.
    np.testing.assert_allclose(found.logprobs, logprobs[-n:], atol=2e-5)
    assert found.greedy.tolist() == best[-n:].tolist()
    assert found.is_greedy == best[-n:].all() and found.n_cut == 0
    assert math.isclose(found.total, logprobs[-n:].sum(), abs_tol=1e-4)
  assert scored[-1].is_greedy and not scored[0].is_greedy


def test_a_context_that_is_too_long_loses_its_beginning(model, scorer):
  ids = [1, *drawn(120)]
  for n in (1, 30, MAX_LEN):
    (found,) = scorer.ids([(ids[:-n], ids[-n:])])
    assert found.n_cut == len(ids) - (MAX_LEN + 1)
    logprobs, _ = alone(model, ids[-(MAX_LEN + 1) :])
    np.testing.assert_allclose(found.logprobs, logprobs[-n:], atol=2e-5)


def test_a_continuation_longer_than_the_model_is_refused(scorer):
  with pytest.raises(UserError, match="has 97 tokens, more than"):
    scorer.ids([([1], drawn(97))])


def test_neighbours_change_no_bit(scorer):
  pairs = [([1], drawn(n)) for n in (20, 21, 33, 22, 64, 2, 50)]
  together = scorer.ids(pairs)
  for pair, found in zip(pairs, together, strict=True):
    (single,) = scorer.ids([pair])
    np.testing.assert_array_equal(single.logprobs, found.logprobs)


def test_every_length_takes_one_of_few_programs(scorer):
  score._forward.clear_cache()
  scorer.ids([([1], drawn(n)) for n in range(1, MAX_LEN + 1, 5)])
  assert score._forward._cache_size() == 3  # of 32, 64 and 96


def test_logits_made_in_chunks_are_the_same(model, monkeypatch):
  config, params = model
  tokens = jnp.array([drawn(37), drawn(37, 1)])
  positions = jnp.broadcast_to(jnp.arange(37), tokens.shape)
  arguments = (
    config,
    params,
    tokens,
    tokens[::-1],
    positions,
    positions * 0 + 1,
  )

  def forward():
    function = score._forward.__wrapped__
    return jax.jit(lambda params, *rest: function(config, params, *rest))(
      *arguments[1:]
    )

  whole = forward()
  budget = 5 * 2 * config.vocab_size
  monkeypatch.setattr(score, "LOGITS_PER_CHUNK", {"*": budget})
  in_chunks = forward()
  np.testing.assert_allclose(whole[0], in_chunks[0], rtol=1e-6)
  np.testing.assert_array_equal(whole[1], in_chunks[1])


def test_packed_documents_are_scored_apart(model, scorer):
  a, b = [1, *drawn(17)], [1, *drawn(1)]
  tokens = np.zeros((4, 25), np.int32)
  tokens[0, :18] = a[:-1] + b[:-1]
  tokens[1, :18] = a[1:] + b[1:]
  tokens[2, :18] = [1] * 17 + [2]
  tokens[3, :18] = [*range(17), 0]
  ((_, found),) = scorer.rows([Row(*tokens)])
  expected = np.concatenate([alone(model, a)[0], alone(model, b)[0]])
  np.testing.assert_allclose(found.logprobs[:18], expected, atol=2e-5)


def test_a_model_of_zeros_is_uniform(model, letters):
  config, params = model
  zeros = jax.tree.map(jnp.zeros_like, params)
  (found,) = Scorer(config, zeros, letters()).texts([("ab", "cde fgh")])
  # One rounding of fp32.
  assert abs(math.exp(-found.total / 7) / config.vocab_size - 1) < 5e-7


def test_weights_that_have_diverged_are_told(model, letters):
  config, params = model
  broken = jax.tree.map(lambda a: a * jnp.nan, params)
  with pytest.raises(UserError, match="are not finite: its weights have"):
    Scorer(config, broken, letters()).texts([("a", "b")])


def test_a_model_that_sees_the_future_has_no_likelihood(
  model, letters, monkeypatch
):
  monkeypatch.setattr(MIXERS["attention"], "causal", False)
  with pytest.raises(UserError, match="is not causal, so the model gives"):
    Scorer(*model, letters())


def test_windows_are_those_of_the_harness():
  # The example in lm_eval.api.model.LM.loglikelihood_rolling.
  assert list(windows(range(10), -1, 4)) == [
    ([-1], [0, 1, 2, 3]),
    ([3], [4, 5, 6, 7]),
    ([5, 6, 7], [8, 9]),
  ]


@pytest.mark.parametrize("max_len", [1, 2, 5, 8])
def test_windows_predict_each_token_once(max_len):
  for n, least in itertools.product(range(14), range(1, max_len + 1)):
    whole, at = [-1, *range(n)], 0
    for context, continuation in windows(range(n), -1, max_len, least):
      assert continuation == whole[at + 1 : at + 1 + len(continuation)]
      assert context == whole[at + 1 - len(context) : at + 1]
      n_inputs = len(context) + len(continuation) - 1
      assert n_inputs == max_len or (at == 0 and n_inputs == n < max_len)
      assert at == 0 or len(context) >= least
      at += len(continuation)
    assert at == n


def test_a_long_text_is_scored_by_windows(model, scorer):
  text = "".join(chr(ord("a") + i % 26) for i in drawn(250))
  long, short, empty = scorer.rolling([text, "abc", ""])
  ids = scorer.tokenizer.encode(text)
  expected = [
    alone(model, [*context, *continuation])[0][-len(continuation) :]
    for context, continuation in windows(ids, 1, MAX_LEN)
  ]
  np.testing.assert_allclose(long.logprobs, np.concatenate(expected), atol=2e-5)
  assert len(long.logprobs) == 250 and len(short.logprobs) == 3
  assert empty.total == 0 and len(empty.logprobs) == 0


@dataclasses.dataclass(frozen=True)
class Merging:
  """Greedy longest match over a few pieces; others are letters."""

  pieces: tuple[str, ...] = (" the", " th", "ab", " a")
  pad_id: int = 0
  bos_id: int = 1
  eos_id: int = 2
  vocab_size: int = 200

  def encode(self, text):
    ids = []
    while text:
      known = [p for p in self.pieces if text.startswith(p)]
      piece = max(known, key=len, default=text[0])
      ids.append(3 + self.pieces.index(piece) if known else ord(piece))
      text = text[len(piece) :]
    return ids

  def token_bytes(self, token):
    if token - 3 in range(len(self.pieces)):
      return self.pieces[token - 3].encode()
    return chr(token).encode() if token > 10 else b""


@pytest.mark.parametrize(
  ("context", "continuation", "expected"),
  [
    ("x", " the", ([1, ord("x")], [3])),
    # A space at the end belongs to what follows.
    ("x ", "the", ([1, ord("x")], [3])),
    ("x  ", "the", ([1, ord("x")], [ord(" "), 3])),
    ("", " the", ([1], [3])),
    ("  ", "the", ([1], [ord(" "), 3])),
    # "ab" is one token, so that the whole does not begin with "a".
    ("a", "bc", ([1, ord("a")], [ord("b"), ord("c")])),
    ("xa", "b", ([1, ord("x"), ord("a")], [ord("b")])),
    # Of the whole, not " th" and "e".
    ("x th", "e", ([1, ord("x"), 4], [ord("e")])),
  ],
)
def test_a_text_is_cut_where_the_contexts_tokens_end(
  context, continuation, expected
):
  tokenizer = Merging()
  ids, rest = split(tokenizer, context, continuation)
  assert (ids, rest) == expected
  spelled = b"".join(map(tokenizer.token_bytes, ids + rest)).decode()
  assert spelled == context + continuation


def test_bos_stands_before_every_text(scorer):
  ((with_context,), (without,)) = (
    scorer.texts([("a", "b")]),
    scorer.texts([("", "ab")]),
  )
  assert with_context.logprobs[0] == without.logprobs[1]


def test_at_least_one_row_is_computed(model, letters):
  with pytest.raises(UserError, match="n_rows=0 must be at least 1"):
    Scorer(*model, letters(), n_rows=0)
