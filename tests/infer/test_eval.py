"""The evaluations: rigged models whose answers are known by hand."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ablax.errors import UserError
from ablax.infer.evals import (
  EVALS,
  Line,
  Source,
  exact_match,
  multiple_choice,
  perplexity,
  read_lines,
  share,
)
from ablax.infer.evals.exact_match import squad, token_f1
from ablax.infer.score import Row, Scored, Scorer

PROVES = (
  "evaluation:perplexity",
  "evaluation:multiple_choice",
  "evaluation:exact_match",
)


class Rigged(Scorer):
  """Log-likelihoods from a table: one number for each token."""

  def __init__(self, table):
    self.table = table

  def texts(self, pairs):
    return [
      Scored(np.array(self.table[pair], np.float32), np.ones(1, bool))
      for pair in pairs
    ]


def line(n=1, **fields):
  return Line(f"q.jsonl:{n}", fields)


@pytest.fixture
def uniform(model, letters):
  config, params = model
  zeros = jax.tree.map(jnp.zeros_like, params)
  return Scorer(config, zeros, letters(), n_rows=2)


# A source of two rows: pieces of 3 and 1 tokens, and one of 4.
ROWS = [
  Row(*np.array([[5, 6, 7, 8], [6, 7, 8, 9], [1, 1, 1, 2], [0, 1, 2, 0]])),
  Row(*np.array([[5, 6, 7, 0], [6, 7, 8, 0], [1, 1, 1, 0], [0, 1, 2, 0]])),
  Row(*np.array([[5, 6, 7, 8], [6, 7, 8, 9], [1, 1, 1, 1], [0, 1, 2, 3]])),
]


def source(rows, documents=(), n_bytes=10, name="s"):
  rows = [Row(*(a.astype(np.int32) for a in row)) for row in rows]
  return Source(name, rows, lambda: documents, lambda: n_bytes)


def test_the_perplexity_of_a_uniform_model_is_its_vocabulary(uniform):
  V = uniform.config.vocab_size
  measure = perplexity.Perplexity(perplexity.Options())
  found = measure(uniform, [source(ROWS), source(ROWS[:1], (), 4, "t")])
  a, b = found["sources"]["s"], found["sources"]["t"]
  assert (a["tokens"], b["tokens"], found["all"]["tokens"]) == (11, 4, 15)
  for numbers in (a, b, found["all"]):
    assert abs(numbers["perplexity"] / V - 1) < 5e-7
    assert abs(numbers["loss"] - math.log(V)) < 5e-7
  assert abs(a["bits_per_byte"] - 11 / 10 * math.log2(V)) < 1e-6
  assert abs(found["all"]["bits_per_byte"] - 15 / 14 * math.log2(V)) < 1e-6
  assert [
    (x["first"], x["last"], x["tokens"]) for x in found["by_position"]
  ] == [(0, 0, 6), (1, 1, 4), (2, 3, 5)]
  assert found["by_context"]["curve"] == []
  assert len(measure.show(found)) == 2
  json.dumps(found, allow_nan=False)


def test_positions_are_told_apart(uniform, monkeypatch):
  # As if the token at position p cost p nats.
  monkeypatch.setattr(
    Scorer,
    "rows",
    lambda self, rows: (
      (row, Scored(-row.positions.astype(np.float32), row.tokens > 0))
      for row in rows
    ),
  )
  found = perplexity.Perplexity(perplexity.Options())(uniform, [source(ROWS)])
  losses = [x["loss"] for x in found["by_position"]]
  assert losses == [0, 1, (2 + 2 + 2 + 3) / 4]


def test_the_same_tokens_are_scored_with_more_and_more_context(model, letters):
  scorer = Scorer(*model, letters(), n_rows=2)  # model.max_len is 96
  ids = np.random.default_rng(0).integers(3, 32, 96 * 5 + 3).tolist()
  measure = perplexity.Perplexity(perplexity.Options(tail=5, windows=4))
  found = measure(scorer, [source(ROWS, [ids[:50], ids])])
  curve = found["by_context"]["curve"]
  assert [x["context"] for x in curve] == [0, 16, 64, 91]
  assert found["by_context"]["windows"] == 4
  assert "windows" in measure.show(found)[2].caption
  for place in (0, 1, 3):
    n = curve[place]["context"]
    losses = []
    for end in (96, 192, 288, 384):
      context = [1, *ids[end - 5 - n : end - 5]]
      (score,) = scorer.ids([(context, ids[end - 5 : end])])
      losses.append(-score.total / 5)
    assert math.isclose(curve[place]["loss"], np.mean(losses), rel_tol=1e-9)
    error = np.std(losses, ddof=1) / 2
    assert math.isclose(curve[place]["error"], error, rel_tol=1e-9)


def test_context_goes_as_far_as_documents_do(uniform):
  measure = perplexity.Perplexity(perplexity.Options(tail=4))
  found = measure(uniform, [source(ROWS, [[5] * 21] * 3 + [[5] * 80])])
  # One document of 80 is too few for 64; 16 + 4 fit into all.
  assert [x["context"] for x in found["by_context"]["curve"]] == [0, 16]
  assert "long enough for 92 tokens" in measure.show(found)[2].caption


def test_one_window_has_no_standard_error(uniform, tmp_path):
  measure = perplexity.Perplexity(perplexity.Options(tail=4, windows=1))
  found = measure(uniform, [source(ROWS, [[5] * 96])])
  context = found["by_context"]
  assert context["windows"] == 1
  assert [x["error"] for x in context["curve"]] == [None] * 4
  table = measure.show(found)[2]
  assert {row[2] for row in table.rows} == {"none, of one window"}
  perplexity.plot(found, "a run", tmp_path / "figure.png")
  assert (tmp_path / "figure.png").is_file()


def test_a_source_that_comes_twice_is_refused(uniform):
  measure = perplexity.Perplexity(perplexity.Options())
  with pytest.raises(UserError, match="'s' comes twice"):
    measure(uniform, [source(ROWS), source(ROWS)])


def test_a_source_without_text_is_named(uniform):
  measure = perplexity.Perplexity(perplexity.Options())
  with pytest.raises(UserError, match="s holds no text"):
    measure(uniform, [source([])])
  with pytest.raises(UserError, match="tail=0 must be at least 1"):
    perplexity.Options(tail=0)


def test_the_figure_is_a_png(uniform, tmp_path):
  measure = perplexity.Perplexity(perplexity.Options(tail=4))
  found = measure(uniform, [source(ROWS, [[5] * 96] * 4)])
  perplexity.plot(found, "a run", tmp_path / "figure.png")
  assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_each_rule_of_multiple_choice_chooses_as_by_hand():
  # "é" and "日本" are 1 and 2 characters, 2 and 6 bytes.
  choices = ["é", "日本", "abcd", "zzzzzzzzz"]
  asked = [[-2.0], [-2.1, -2.1], [-1.5] * 4, [-1.4] * 6]
  alone = [[-2.0], [-4.0], [-9.0], [-8.0]]
  table = {}
  for choice, with_question, without in zip(choices, asked, alone, strict=True):
    table["Q?", f" {choice}"] = with_question
    table["", f" {choice}"] = without
  # sum        -2.0  -4.2  -6.0  -8.4    the first
  # tokens     -2.0  -2.1  -1.5  -1.4    the last
  # characters -2.0  -2.1  -1.5  -0.93   the last
  # bytes      -1.0  -0.7  -1.5  -0.93   the second
  # pmi         0.0  -0.2   3.0  -0.4    the third
  expected = {"sum": 0, "tokens": 3, "characters": 3, "bytes": 1, "pmi": 2}
  measure = multiple_choice.MultipleChoice(multiple_choice.Options())
  for answer in range(4):
    found = measure(
      Rigged(table), [line(question="Q?", choices=choices, answer=answer)]
    )
    assert found["lines"][0]["chosen"] == expected
    for rule, chosen in expected.items():
      assert found["accuracy"][rule]["value"] == (chosen == answer)
  assert found["chance"] == 0.25 and found["n_cut"] == 0
  assert np.allclose(found["lines"][0]["loglikelihoods"], [-2, -4.2, -6, -8.4])
  (shown,) = measure.show(found)
  assert ("pmi", "0.000", "0.000 to 0.793", "acc_mutual_info") in shown.rows


def test_a_premise_stands_for_the_question_and_a_delimiter_between():
  table = {
    ("Q", "=x"): [-1.0],
    ("Q", "=y"): [-2.0],
    ("the answer", "=x"): [-1.0],
    ("the answer", "=y"): [-5.0],
  }
  options = multiple_choice.Options(delimiter="=")
  found = multiple_choice.MultipleChoice(options)(
    Rigged(table),
    [line(context="Q", choices=["x", "y"], answer="a", premise="the answer")],
  )
  assert found["lines"][0]["chosen"]["pmi"] == 1
  assert found["accuracy"]["sum"]["value"] == 1


def test_questions_that_are_cut_are_counted(uniform):
  measure = multiple_choice.MultipleChoice(multiple_choice.Options())
  found = measure(
    uniform,
    [
      line(question="a" * 200, choices=["b", "c"], answer=0),
      line(question="a", choices=["b", "c"], answer=0),
    ],
  )
  assert found["n_cut"] == 1
  assert "1 questions are longer" in measure.show(found)[0].caption


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"question": None}, "question=None must be a text"),
    ({"context": "x"}, "has both question and context"),
    ({"choices": "ab"}, "must be a list of two texts"),
    ({"choices": ["a"]}, "must be a list of two texts"),
    ({"choices": ["a", 1]}, "must be a list of two texts"),
    ({"choices": ["a", " "]}, "choice 1 is empty"),
    ({"answer": 2}, "answer=2 is out of range; with 2 choices it is from 0"),
    ({"answer": -1}, "answer=-1 is out of range"),
    ({"answer": "C"}, "answer='C' is out of range"),
    ({"answer": True}, "answer=True must be a number from 0 to 1 or a letter"),
    ({"answer": "a fruit"}, "answer='a fruit' must be a number"),
    ({"premise": 3}, "premise=3 must be a text"),
  ],
)
def test_a_question_that_is_wrong_names_its_line(uniform, change, message):
  right = {"question": "a", "choices": ["b", "c"], "answer": 0}
  measure = multiple_choice.MultipleChoice(multiple_choice.Options())
  with pytest.raises(UserError) as caught:
    measure(uniform, [line(7, **(right | change))])
  assert "q.jsonl:7" in str(caught.value) and message in str(caught.value)


@pytest.mark.parametrize("missing", ["question", "choices", "answer"])
def test_what_a_question_lacks_is_named(uniform, missing):
  fields = {"question": "a", "choices": ["b", "c"], "answer": 0}
  del fields[missing]
  measure = multiple_choice.MultipleChoice(multiple_choice.Options())
  with pytest.raises(UserError, match=f"q.jsonl:7 lacks the field '{missing}'"):
    measure(uniform, [line(7, **fields)])


def test_greedy_text_is_matched(model, letters, run):
  scorer = Scorer(*model, letters(), n_rows=2)
  (said,) = run(["ab"], temperature=0.0, max_tokens=6, n_rows=2)
  options = exact_match.Options(max_tokens=6, stop=("@",))
  found = exact_match.ExactMatch(options)(
    scorer,
    [
      line(prompt="ab", answer=f" {said.text} "),
      line(prompt="ab", answers=["no", said.text]),
      line(prompt="ab", answer="no"),
      line(prompt="b" * 99, answer="no"),
    ],
  )
  assert [x["right"] for x in found["lines"]] == [True, True, False, False]
  assert found["lines"][0]["said"] == said.text
  assert found["exact_match"]["value"] == 0.5 and found["n_cut"] == 1
  assert found["f1"] >= 0.5


def test_a_stop_text_ends_the_answer(model, letters, run):
  scorer = Scorer(*model, letters(), n_rows=2)
  (said,) = run(["ab"], temperature=0.0, max_tokens=6, n_rows=2)
  assert len(said.text) > 1
  options = exact_match.Options(max_tokens=6, stop=(said.text[1],))
  found = exact_match.ExactMatch(options)(
    scorer, [line(prompt="ab", answer="x")]
  )
  end = said.text.index(said.text[1])
  assert found["lines"][0]["said"] == said.text[:end]
  assert found["lines"][0]["finish"] == "stop"


@pytest.mark.parametrize(
  ("text", "normal"),
  [
    ("The  cat, a cat!", "cat cat"),
    ("an Anthem", "anthem"),
    ("U.S.A.", "usa"),
    (" \n", ""),
  ],
)
def test_squads_normal_form(text, normal):
  assert squad(text) == normal


@pytest.mark.parametrize(
  ("said", "answer", "f1"),
  [
    ("a b c", "b c d e", 2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4)),
    ("x x", "x", 2 / 3),
    ("a", "b", 0),
    ("", "", 1),
    ("", "b", 0),
  ],
)
def test_f1_over_words_by_hand(said, answer, f1):
  assert math.isclose(token_f1(said, answer), f1)


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"answer": "x"}, "lacks the field 'prompt'; its fields are answer"),
    ({"prompt": "x"}, "lacks the field 'answer'"),
    ({"prompt": 1, "answer": "x"}, "prompt=1 must be a text"),
    ({"prompt": "x", "answer": 1}, "answer=1 must be a text"),
    ({"prompt": "x", "answers": []}, "must be a list of one text or more"),
    ({"prompt": "x", "answers": "x"}, "must be a list of one text or more"),
    ({"prompt": "x", "answers": ["x"], "answer": "x"}, "has both answer and"),
  ],
)
def test_a_prompt_that_is_wrong_names_its_line(uniform, fields, message):
  measure = exact_match.ExactMatch(exact_match.Options())
  with pytest.raises(UserError) as caught:
    measure(uniform, [line(7, **fields)])
  assert "q.jsonl:7" in str(caught.value) and message in str(caught.value)


def test_options_that_make_no_sense_are_refused(uniform):
  with pytest.raises(UserError, match="max_tokens=96 leaves no room for a"):
    options = exact_match.Options(max_tokens=96)
    exact_match.ExactMatch(options)(uniform, [line(prompt="a", answer="b")])
  with pytest.raises(UserError, match="must be at least 1"):
    options = exact_match.Options(max_tokens=0)
    exact_match.ExactMatch(options)(uniform, [line(prompt="a", answer="b")])


@pytest.mark.parametrize("normalize", ["squat", ""])
def test_an_unknown_normal_form_is_refused(unchecked, normalize):
  with pytest.raises(UserError, match="is not one of none, squad"):
    exact_match.Options(normalize=normalize)


@pytest.mark.parametrize(("k", "n"), [(0, 5), (3, 8), (40, 40), (51, 100)])
def test_intervals_are_wilsons(k, n):
  z, p = 1.959963984540054, k / n
  centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
  half = math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) * z / (1 + z**2 / n)
  found = share(k, n)
  assert math.isclose(found["value"], p)
  assert math.isclose(found["low"], centre - half, abs_tol=1e-12)
  assert math.isclose(found["high"], centre + half, abs_tol=1e-12)


def test_lines_know_where_they_stand(tmp_path):
  file = tmp_path / "f.jsonl"
  file.write_text('\ufeff{"a": "x\u2028y"}\n\n  {"a": 2}\n', encoding="utf-8")
  first, second = read_lines(file)
  assert first == Line(f"{file}:1", {"a": "x\u2028y"})
  assert second == Line(f"{file}:3", {"a": 2})


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (b'{"a": 1}\n{"a": \n', "f.jsonl:2 is not JSON"),
    (b"[1]", "f.jsonl:1 is a JSON list, not an object"),
    (b"\xff", "is not UTF-8 (byte offset 0)"),
    (b"\n \n", "holds no line"),
    (None, "there is no such file"),
  ],
)
def test_a_file_that_is_wrong_is_named(tmp_path, content, message):
  file = tmp_path / "f.jsonl"
  if content is not None:
    file.write_bytes(content)
  with pytest.raises(UserError) as caught:
    read_lines(file)
  assert str(file) in str(caught.value) and message in str(caught.value)


def test_an_unknown_evaluation_is_refused_with_the_nearest():
  with pytest.raises(UserError, match="did you mean 'perplexity'"):
    EVALS["perplexty"]
