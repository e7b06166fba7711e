"""Every output fits, and among those that fit nothing is changed."""

import json
import re

import jax.numpy as jnp
import jsonschema
import numpy as np
import pytest

from ablax.data.tokenizers.bytes import Bytes
from ablax.errors import UserError
from ablax.infer.constraints import CONSTRAINTS, make_matcher
from ablax.infer.sampling import Sampling, generate
from ablax.models.lm import apply, init

PROVES = ("constraint:regex", "constraint:json_schema", "constraint:grammar")

PHONE = r"[0-9]{3}-[a-c]+(é|日本)?"
SCHEMA = {
  "type": "object",
  "properties": {
    "name": {"type": "string", "maxLength": 6},
    "age": {"type": "integer", "minimum": 0, "maximum": 130},
    "kind": {"enum": ["cat", "dog", 7, None]},
    "tags": {
      "type": "array",
      "items": {"type": "boolean"},
      "minItems": 1,
      "maxItems": 3,
    },
  },
  "required": ["name", "age", "kind", "tags"],
  "additionalProperties": False,
}
# Balanced brackets: no regular expression says this.
BALANCED = r"""
start: "x" | "(" start ")" | "[" start "]"
"""
ENDS = ("eos", "complete")


@pytest.fixture(scope="module")
def speller(model_config):
  """A function from a constraint to completions by an untrained model."""
  import jax

  config = model_config(vocab_size=264, max_len=256, tie_embeddings=False)
  params = init(config, jax.random.key(5))

  def spell(prompts=("a", "bc", ""), **settings):
    arguments = {
      k: settings.pop(k) for k in ("decoding", "on_text") if k in settings
    }
    sampling = Sampling(**{"max_tokens": 150, **settings})
    return generate(config, params, Bytes(), prompts, sampling, **arguments)

  return spell


def balanced(text):
  while (shorter := re.sub(r"\(x\)|\[x\]", "x", text)) != text:
    text = shorter
  return text == "x"


def valid(text):
  jsonschema.validate(json.loads(text), SCHEMA)
  return True


@pytest.mark.parametrize("decoding", ["sample", "beam", "contrastive"])
@pytest.mark.parametrize(
  ("constraint", "fits"),
  [
    ({"regex": PHONE}, lambda text: re.fullmatch(PHONE, text)),
    ({"json_schema": SCHEMA}, valid),
    ({"grammar": BALANCED}, balanced),
  ],
  ids=["regex", "json_schema", "grammar"],
)
def test_every_output_that_ends_fits(speller, constraint, fits, decoding):
  seeds = range(3) if decoding == "sample" else (0,)
  found = [
    c for s in seeds for c in speller(seed=s, decoding=decoding, **constraint)
  ]
  ended = [c for c in found if c.finish in ENDS]
  assert ended and all(fits(c.text) for c in ended)
  # A model that knows no end may open brackets for ever.
  assert all(c.finish in (*ENDS, "length") for c in found)
  if decoding == "sample":
    assert len({c.text for c in ended}) > 3


def test_a_schema_may_be_text_and_is_streamed(speller):
  shown = {}

  def on_text(i, text):
    shown[i] = shown.get(i, "") + text

  found = speller(json_schema=json.dumps(SCHEMA), on_text=on_text)
  assert [shown[i] for i in range(3)] == [c.text for c in found]
  assert found == speller(json_schema=SCHEMA)


def test_the_distribution_is_the_models_own_among_what_fits(
  run, model, letters
):
  ids = jnp.array([[1, *letters().encode("ab")]])
  logits_V = np.asarray(apply(*model, ids).logits()[0, -1], np.float64)
  allowed = letters().encode("abcxyz")
  p = np.exp(logits_V[allowed]) / np.exp(logits_V[allowed]).sum()
  n = 400
  found = run(["ab"], regex="[a-cx-z]", n=n, max_tokens=3, seed=2)
  drawn = [c.tokens[0] for c in found]
  counts = np.array([drawn.count(token) for token in allowed])
  assert counts.sum() == n
  # Five degrees of freedom: above 20.5 once in a thousand seeds.
  assert ((counts - n * p) ** 2 / (n * p)).sum() < 20.5
  # And the logprobs are those of the model without a constraint.
  logprob = logits_V[drawn[0]] - np.log(np.exp(logits_V).sum())
  assert found[0].logprobs[0] == pytest.approx(logprob, abs=1e-5)


def test_each_example_has_its_own_place_in_the_constraint(speller):
  prompts = ["a", "bc", "", "d" * 40]
  whole = speller(prompts, regex=PHONE, seed=2)
  assert len({len(c.tokens) for c in whole}) > 2
  assert [speller([p], regex=PHONE, seed=2)[0] for p in prompts] == whole


@pytest.mark.parametrize(
  ("regex", "place"),
  [("[0-9]+", "token 1 of the output, after ''"), ("ab?c7", "token ")],
)
@pytest.mark.parametrize("decoding", ["sample", "beam"])
def test_a_grammar_that_no_token_fits_is_named(run, regex, place, decoding):
  with pytest.raises(UserError) as caught:
    run(["a"], regex=regex, decoding=decoding)
  assert f"regex: no token of the vocabulary fits at {place}" in (
    str(caught.value)
  )
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize("decoding", ["sample", "beam", "contrastive"])
def test_a_grammar_beyond_llguidances_limits_is_named(run, decoding):
  n = 400  # 7 items a rule, and 2000 are allowed
  rules = [f'r{i}: "a" r{(7 * i + 1) % n} | "a" | "a" "a"' for i in range(n)]
  start = "start: " + "|".join(f"r{i}" for i in range(n))
  with pytest.raises(UserError) as caught:
    run(["a"], grammar="\n".join([start, *rules]), decoding=decoding)
  assert "grammar: llguidance gives up at token 1 of the output, after ''" in (
    str(caught.value)
  )
  assert "max is 2000" in str(caught.value) and "\n" not in str(caught.value)


def test_a_matcher_does_not_take_what_it_did_not_allow(letters):
  matcher = make_matcher(Sampling(regex="ab"), letters(), 54)
  (a, b) = letters().encode("ab")
  assert not matcher.push(a) and matcher.push(b)
  with pytest.raises(UserError, match="regex: llguidance gives up at token 3"):
    matcher.push(b)


def test_a_plugin_adds_a_constraint(monkeypatch, run):
  monkeypatch.setitem(
    CONSTRAINTS._registered,
    "letters",
    lambda value: CONSTRAINTS["regex"](f"[{value}]{{5}}"),
  )
  (found,) = run(["a"], constraints={"letters": "xy"})
  assert re.fullmatch("[xy]{5}", found.text)
  with pytest.raises(UserError, match="'z' is not a registered constraint"):
    run(["a"], constraints={"z": 1})
  with pytest.raises(UserError, match="regex and letters are two constraints"):
    run(["a"], regex="a", constraints={"letters": "xy"})


def test_every_constraint_of_ours_has_a_setting():
  words = dict.fromkeys(CONSTRAINTS, "x")
  for word in words:
    assert Sampling(**{word: "x"}).given_constraints == {word: "x"}


def test_an_empty_schema_is_any_json(speller):
  found = [c for s in range(4) for c in speller(json_schema={}, seed=s)]
  ended = [c.text for c in found if c.finish in ENDS]
  assert ended and all(json.loads(text) != "" for text in ended)


def test_a_beam_that_comes_to_a_dead_end_is_left(run):
  (found,) = run(["a"], regex="a[0-9]|b(c|d)", decoding="beam")
  assert found.text in ("bc", "bd")


def test_a_constraint_with_few_outputs_gives_no_more(run):
  found = run(["a"], regex="a|b", decoding="beam", n=2)
  assert {c.text for c in found} == {"a", "b"}
  with pytest.raises(UserError, match="n=3: the search found no more than 2"):
    run(["a"], regex="a|b", decoding="beam", n=3)


@pytest.mark.parametrize(
  ("constraint", "message"),
  [
    ({"regex": "a("}, "regex='a(' is not valid: unclosed group"),
    ({"regex": "(?=a)b"}, "look-around"),
    ({"grammar": "begin: 'a'"}, "grammar=\"begin: 'a'\" is not valid"),
    ({"json_schema": "{"}, "json_schema='{' is not JSON"),
    ({"json_schema": "[1]"}, "json_schema=[1] must be an object"),
    ({"json_schema": {"type": "strnig"}}, "Invalid type: strnig"),
    ({"json_schema": {"not": {}}}, "Unimplemented keys"),
    ({"json_schema": {"enum": []}}, "Unsatisfiable schema"),
    ({"json_schema": {"const": "\ud800"}}, "not JSON serializable"),
    ({"json_schema": '{"const": "\\ud800"}'}, "not JSON serializable"),
    ({"json_schema": "[" * 100_000}, "maximum recursion depth"),
    ({"regex": "\ud800"}, "surrogates not allowed"),
    ({"regex": ""}, "regex='' is empty; write what"),
    ({"json_schema": ""}, "json_schema='' is empty"),
    ({"grammar": " \n"}, "grammar=' \\n' is empty"),
  ],
)
def test_a_malformed_constraint_is_one_line(run, constraint, message):
  with pytest.raises(UserError) as caught:
    run(["a"], **constraint)
  assert message in str(caught.value)
  assert "\n" not in str(caught.value)
