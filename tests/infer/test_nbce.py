"""Naive-Bayes context extension, against contexts read one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ablax.errors import UserError
from ablax.infer.decoding.nbce import Options, pooled
from ablax.models.lm import apply

PROVES = ("decoding:nbce",)

CONTEXTS = ("the cat sat", "a", "on which mat was it then")


def by_hand(model, letters, prompt, contexts, beta, eta, n):
  """Greedy tokens and their log-probabilities, each from whole rows."""
  letters = letters()
  room = model[0].max_len  # one shape, so that all rows are one program

  @jax.jit
  def following(params, row, length):
    logits = apply(model[0], params, row[None]).logits()[0]
    return logits[length - 1]

  tokens, logprobs, last = (), [], None
  starts = [(), *map(letters.encode, contexts)]
  while len(tokens) < n and letters.eos_id not in tokens:
    found = []
    for start in starts:
      ids = (letters.bos_id, *start, *letters.encode(prompt), *tokens)
      row = jnp.array(ids + (0,) * (room - len(ids)))
      logits = np.asarray(following(model[1], row, len(ids)), np.float64)
      found.append(logits - np.log(np.exp(logits).sum()))
    alone, *others = found
    entropy = [-(np.exp(p) * p).sum() for p in others]
    if last is not None:
      entropy[last] -= eta
    last = int(np.argmin(entropy))
    merged = (1 + beta) * others[last] - beta * alone
    allowed = np.full(len(merged), -np.inf)
    allowed[2 : letters.vocab_size] = 0
    token = int((merged + allowed).argmax())
    logprobs.append(merged[token] - np.log(np.exp(merged).sum()))
    tokens += (token,)
  return tokens, logprobs


@pytest.mark.parametrize(("beta", "eta"), [(0.25, 0.1), (0, 0), (2.0, 5.0)])
def test_greedy_tokens_are_those_of_rows_computed_one_by_one(
  model, letters, run, beta, eta
):
  options = Options(CONTEXTS, beta, eta)
  prompts = ["and so", "b"]
  found = run(
    prompts, decoding="nbce", options=options, max_tokens=8, temperature=0
  )
  for prompt, completion in zip(prompts, found, strict=True):
    tokens, logprobs = by_hand(model, letters, prompt, CONTEXTS, beta, eta, n=8)
    assert completion.tokens == tokens
    # fp32 sums in another order; beta = 2 triples what they differ by.
    assert completion.logprobs == pytest.approx(logprobs, abs=2e-5)


def test_one_context_without_weight_is_a_longer_prompt(run):
  settings = {"max_tokens": 9, "temperature": 0}
  options = Options(("the cat ",), beta=0)
  (one,) = run(["sat"], decoding="nbce", options=options, **settings)
  (plain,) = run(["the cat sat"], **settings)
  assert one.tokens == plain.tokens


def test_the_context_is_that_of_least_entropy_and_changes_for_a_reason():
  sharp, flat = [4.0, 0.0, 0.0, 0.0], [0.1, 0.0, 0.0, 0.0]
  alone = [0.0, 0.0, 0.0, -300.0]
  logits = jnp.asarray([alone, flat, sharp])
  for last, eta, expected in ((-1, 0.0, 1), (0, 0.5, 1), (0, 5.0, 0)):
    merged_V, k = pooled(
      logits, jnp.int32(last), *map(jnp.float32, (0.25, eta))
    )
    assert k == expected
    # Where the prompt alone rules a token out, it does not count against it.
    chosen = np.array([flat, sharp][expected], np.float64)
    assert merged_V[3] == pytest.approx(
      chosen[3] - np.log(np.exp(chosen).sum()), abs=1e-6
    )


def test_draws_differ_and_come_again(run):
  options = Options(CONTEXTS)
  settings = {"decoding": "nbce", "options": options, "max_tokens": 6, "n": 3}
  first, again = (run(["and"], **settings) for _ in range(2))
  assert [c.tokens for c in first] == [c.tokens for c in again]
  assert len({c.tokens for c in first}) == 3


@pytest.mark.parametrize(
  ("options", "settings", "message"),
  [
    ({}, {}, r"contexts=\(\) gives decoding=nbce nothing to read"),
    ({"contexts": ("a",), "beta": -1}, {}, "beta=-1 and eta=0.1 must be 0 or"),
    ({"contexts": ("a",)}, {"guidance_scale": 2}, "guidance_scale=2: decoding"),
    ({"contexts": ("a" * 95,)}, {}, r"the context .* model.max_len=96"),
    ({"contexts": ("a" * 94,)}, {}, r"the context and prompt .* 97 tokens"),
  ],
)
def test_what_cannot_be_is_refused(run, options, settings, message):
  with pytest.raises(UserError, match=message):
    run(["ab"], decoding="nbce", options=Options(**options), **settings)
