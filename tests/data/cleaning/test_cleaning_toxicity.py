"""Toxicity: named counts, against a search by regular expressions."""

import random
import re

import dirty
import pytest

from ablax.data.cleaning.toxicity import Options, Toxicity
from ablax.data.cleaning.word_lists import BUILTIN, entries
from ablax.errors import UserError

PROVES = ("cleaning step:toxicity",)

# Mild words stand for what a list of a user holds.
LIST = """\ufeff# names for people
rotten
[insults]
Blockhead
dirty  Rat\t2.5
/old (toad|newt)s?/\t3

[中文]
坏蛋
大坏蛋\t4
卡拉OK坏
"""


@pytest.fixture
def path(tmp_path):
  (tmp_path / "list.txt").write_text(LIST)
  return str(tmp_path / "list.txt")


def step(path, **options):
  values = {"words": (path,), "builtin": False} | options
  return Toxicity(Options(**values))


def error(make, *args, **values):
  with pytest.raises(UserError) as caught:
    make(*args, **values)
  assert "\n" not in str(caught.value)
  return str(caught.value)


def test_a_list_is_read_with_its_categories_and_weights(path):
  assert step(path).facts() == {
    "entries": {"word list": 1, "insults": 3, "中文": 3}
  }
  found = [tuple(entry) for entry in entries(LIST[1:], path)]
  assert found == [
    ("rotten", False, "word list", 1.0),
    ("Blockhead", False, "insults", 1.0),
    ("dirty  Rat", False, "insults", 2.5),
    ("old (toad|newt)s?", True, "insults", 3.0),
    ("坏蛋", False, "中文", 1.0),
    ("大坏蛋", False, "中文", 4.0),
    ("卡拉OK坏", False, "中文", 1.0),
  ]


def test_sums_are_those_of_a_search_by_regular_expressions(path):
  """The lookup by hashes finds what `\\b(word)\\b` finds, overlaps too."""
  rng = random.Random(0)
  units = "rotten Rotten rottenly blockhead blockheads dirty rat RAT rats"
  units = [
    *units.split(),
    "old toad",
    "OLD NEWTS",
    "old",
    "坏蛋",
    "大坏蛋",
    "坏",
    "蛋大",
    "卡拉ok坏",
  ]
  patterns = {
    "word list": [(r"\brotten\b", 1)],
    "insults": [
      (r"\bblockhead\b", 1),
      (r"\bdirty\W+rat\b", 2.5),
      (r"old (toad|newt)s?", 3),
    ],
    "中文": [("坏蛋", 1), ("大坏蛋", 4), ("卡拉OK坏", 1)],
  }
  toxicity, seen = step(path), set()
  for _ in range(300):
    text = rng.choice([" ", ", ", "\n", "。"]).join(
      rng.choices(units, k=rng.randrange(12))
    )
    sums, _ = toxicity.sums(text)
    for name, known in patterns.items():
      expected = sum(
        weight * len(re.findall(f"(?i)(?={pattern})", text))
        for pattern, weight in known
      )
      assert sums[name] == expected, (name, text)
      seen.add((name, expected))
  assert len(seen) > 20


@pytest.mark.parametrize(
  ("n_words", "max_per_1000", "reason"),
  [
    (400, 5.0, ""),  # 2 in 400 are 5 for 1,000
    (399, 5.0, "toxicity: word list"),
    (2, 1000.0, ""),
  ],
)
def test_a_text_is_kept_up_to_a_share_of_its_words(
  path, n_words, max_per_1000, reason
):
  text = "rotten " * 2 + "x " * (n_words - 2)
  toxicity = step(path, max_per_1000=max_per_1000)
  assert toxicity.judge([text])[0] == (reason, "")


def test_a_text_is_kept_under_the_least_sum_however_short(path):
  for text, dropped in (("rotten", False), ("rotten, rotten!", True)):
    found = step(path).judge([text])[0].reason
    assert found == ("toxicity: word list" if dropped else "")
  # As C4 does it: one entry is enough.
  once = step(path, max_per_1000=0.0, min_sum=1.0)
  assert once.judge(["rotten " + "x " * 10_000])[0].reason
  assert once.judge([""])[0].reason == ""


def test_the_reason_is_the_category_that_weighs_most(path):
  texts = ["rotten rotten old toad", "rotten rotten blockhead", "大坏蛋 rotten"]
  found = [verdict.reason for verdict in step(path).judge(texts)]
  assert found == [
    "toxicity: insults",
    "toxicity: word list",
    "toxicity: 中文",
  ]
  found = [v.reason for v in step(path, off=("insults",)).judge(texts)]
  assert found == ["toxicity: word list"] * 2 + ["toxicity: 中文"]


def test_a_pattern_counts_where_there_are_no_words(tmp_path):
  (tmp_path / "signs").write_text("/\\*{3}/\n")
  assert step(str(tmp_path / "signs"), min_sum=1.0).judge(["***"])[0].reason


def test_an_entry_of_ones_own_replaces_a_built_in_one(tmp_path):
  text = "what bullshit is this bullshit"
  own = tmp_path / "own"
  own.write_text("[mild]\nbullshit\t0.1\n")
  found = [
    Toxicity(Options(words=words)).sums(text)[0] for words in ((), (str(own),))
  ]
  assert found[0]["obscenity"] == 2
  assert found[1]["obscenity"] == 0 and found[1]["mild"] == pytest.approx(0.2)


def test_the_built_in_lists_find_what_was_planted_and_nothing_else():
  toxicity = Toxicity(Options())
  documents = dirty.corpus()
  verdicts = toxicity.judge([d.text for d in documents])
  for document, verdict in zip(documents, verdicts, strict=True):
    expected = "toxicity: threat" if document.kind == "toxic" else ""
    assert verdict.reason == expected
  # In any case and between any marks, but not inside other words.
  assert toxicity.sums("Scunthorpe matsutake shiitake Bullshits") == (
    dict.fromkeys(("obscenity", "threat", "pornography"), 0.0),
    4.0,
  )
  listed = [entry.text for entry in entries(BUILTIN, "")]
  assert len(set(listed)) == len(listed)


def test_the_fingerprint_is_of_the_lists(path, tmp_path):
  first = step(path).fingerprint
  assert step(path).fingerprint == first
  (tmp_path / "list.txt").write_text(LIST + "more\n")
  assert step(path).fingerprint != first


@pytest.mark.parametrize(
  ("line", "part"),
  [
    ("word\tmuch", ":2 has the weight 'much'; write a positive number"),
    ("word\t-1", ":2 has the weight '-1'"),
    ("word\tinf", ":2 has the weight 'inf'"),
    ("/(/", ":2 is not a regular expression (missing ), unterminated"),
    ("/x*/", ":2 matches the empty text"),
    ("!!!", ":2 has no letter or digit; write it as /regular expression/"),
  ],
)
def test_a_wrong_line_is_told_with_its_number(tmp_path, line, part):
  file = tmp_path / "list.txt"
  file.write_text(f"good\n{line}\n")
  message = error(step, str(file))
  assert message.startswith(f"data.opts.toxicity.words: {file}{part}")


def test_files_that_cannot_be_read_are_named(tmp_path):
  message = error(step, str(tmp_path / "no"))
  assert f"toxicity.words names {tmp_path}/no, which does not exist" in message
  assert "which cannot be read as UTF-8 text" in error(step, str(tmp_path))
  (tmp_path / "latin").write_bytes(b"caf\xe9\n")
  assert "which cannot be read as UTF-8 text" in (
    error(step, str(tmp_path / "latin"))
  )


def test_impossible_options_are_refused(path):
  for values in (
    {"builtin": False},
    {"off": ("obscenity", "threat", "pornography")},
  ):
    assert error(Toxicity, Options(**values)).startswith(
      "data.opts.toxicity has no words left to look for"
    )
  message = error(Options, max_per_1000=-1.0)
  assert message == "data.opts.toxicity.max_per_1000=-1.0 must be at least 0"
  message = error(step, path, off=("insult",))
  assert message == (
    "data.opts.toxicity.off='insult' is not a category; did you mean 'insults'?"
  )
