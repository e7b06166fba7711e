"""Gopher: each rule at both sides of its border, and against slow counting."""

import random
from collections import Counter

import dirty
import pytest

from ablax.data.cleaning import gopher
from ablax.errors import UserError

PROVES = ("cleaning step:gopher",)


def error(options, **values):
  with pytest.raises(UserError) as caught:
    options(**values)
  assert "\n" not in str(caught.value)
  return str(caught.value)


def broken(text, **options):
  return list(gopher.Gopher(gopher.Options(**options)).broken(text))


def distinct(n, length=4):
  """n different words of so many letters; the first two are stop words."""
  rng = random.Random(n)
  words = {"the": 0, "of": 0}  # a dict keeps their order
  while len(words) < n:
    words["".join(rng.choices("bcdfghjklmnpqrstvwxz", k=length))] = 0
  return list(words)[:n]


def prose(n, **kwargs):
  return " ".join(distinct(n, **kwargs))


# Gopher: the rules of quality. Each pair is the last text that is kept and the
# first that is not, at the thresholds of the paper.

HAN = [chr(0x4E10 + i) for i in range(4000)]  # none is a stop word
BORDERS = {
  "few words": (prose(50), prose(49)),
  # In a script without spaces two characters are a word.
  "few words, zh": ("的是" + "".join(HAN[:98]), "的是" + "".join(HAN[:97])),
  "many words": (prose(100_000), prose(100_001)),
  # 49 words of 3 letters ("of" is one short) and one that mends the mean.
  "short words": (
    f"{prose(50, length=3)} {'x' * 4}",
    f"{prose(50, length=3)} {'x' * 3}",
  ),
  # "the" and "of" lack 15 letters of a mean of 10.
  "long words": (
    f"{prose(50, length=10)} {'x' * 25}",
    f"{prose(50, length=10)} {'x' * 26}",
  ),
  "hash signs": (f"{prose(59)} ######", f"{prose(58)} ######"),
  "ellipses": (
    f"{prose(53)} a... b... c… d.... e…… f... g",
    f"{prose(52)} a... b... c… d.... e…… f... g",
  ),
  "bullet lines": (
    "\n".join(["- " + prose(60)] + [f"• x{i}" for i in range(8)] + ["y"]),
    "\n".join(["- " + prose(60)] + [f"* x{i}" for i in range(9)] + ["y"]),
  ),
  "ellipsis lines": (
    "\n".join(
      [prose(60) + "..."] + [f"x{i}…" for i in range(2)] + list("abcdefg")
    ),
    "\n".join(
      [prose(60) + "..."] + [f"x{i}…" for i in range(3)] + list("abcdefg")
    ),
  ),
  "words without letters": (
    prose(60) + "".join(f" {i}9" for i in range(15)),
    prose(60) + "".join(f" {i}9" for i in range(16)),
  ),
  "few stop words": (
    " ".join(["The", *distinct(60)[2:], "WITH,"]),
    " ".join(["The", *distinct(60)[2:], "the"]),
  ),
  "few stop words, zh": (
    "的了" + "".join(HAN[:100]),
    "的的" + "".join(HAN[:100]),
  ),
}


@pytest.mark.parametrize("rule", BORDERS)
def test_a_text_at_the_border_is_kept_and_the_next_is_dropped(rule):
  kept, dropped = BORDERS[rule]
  name = rule.removesuffix(", zh")
  assert name in gopher.names(gopher.Options())
  assert name not in broken(kept)
  assert name in broken(dropped)
  step = gopher.Gopher(gopher.Options())
  if name != "ellipsis lines":  # its ellipses are many, too
    assert [v.reason for v in step.judge([kept, dropped])] == [
      "",
      f"gopher: {name}",
    ]
  off = gopher.Options(off=(name,))
  assert gopher.Gopher(off).judge([dropped])[0].reason != f"gopher: {name}"


def test_the_length_of_words_is_not_asked_of_scripts_without_spaces():
  han = "的是" + "".join(HAN[:100])
  assert not broken(han)
  # Marks between the characters are no words without letters.
  assert not broken("，".join(han[i : i + 5] for i in range(0, 100, 5)) + "。")
  # One word of eleven letters is a small part of it, and no measure.
  assert not broken(han + " abcdefghijk")


def test_an_empty_text_breaks_rules_without_a_division_by_zero():
  assert (
    broken("")
    == broken(" \n\n ")
    == [
      "few words",
      "short words",
      "words without letters",
      "few stop words",
    ]
  )


# Gopher: the rules of repetition, against a reference written from table A1.


def repeats(units):
  """(share of units, share of characters) that repeat an earlier one."""
  again = [unit for i, unit in enumerate(units) if unit in units[:i]]
  return len(again) / len(units), len("".join(again)) / len("".join(units))


def in_ngrams(words, n, choose):
  """Share of characters in the n-grams that `choose` takes from the counts."""
  grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
  chosen = choose(Counter(grams))
  inside = set()
  for i, gram in enumerate(grams):
    if gram in chosen:
      inside |= set(range(i, i + n))
  return sum(len(words[i]) for i in inside) / len("".join(words))


def top(counts):
  # most_common keeps the order of first occurrence among equals.
  return {g for g, c in counts.most_common(1) if c > 1}


def twice(counts):
  return {gram for gram, count in counts.items() if count > 1}


def repetitive(rng, words, space):
  """Lines and paragraphs out of few words, some of them copies."""
  lines = []
  for _ in range(rng.randrange(4, 14)):
    if lines and rng.random() < 0.3:
      lines.append(rng.choice(lines))
    else:
      lines.append(space.join(rng.choices(words, k=rng.randrange(1, 12))))
  return "".join(line + rng.choice(["\n", "\n", "\n \n"]) for line in lines)


@pytest.mark.parametrize("script", ["latin", "han"])
def test_repetition_is_measured_as_in_a_slow_reference(script):
  rng = random.Random(3)
  words = HAN[:12] if script == "han" else dirty.NOUNS[:12]
  space, longer = ("", 2) if script == "han" else (" ", 1)
  n_broken = Counter()
  for _ in range(40):
    text = repetitive(rng, words, space)
    lines = [line for line in text.split("\n") if line.strip()]
    paragraphs = [p.rstrip("\n") for p in text.split("\n \n") if p.strip()]
    units = text.split() if space else [c for c in text if c.strip()]
    measured = {
      "duplicate lines": repeats(lines)[0],
      "characters in duplicate lines": repeats(lines)[1],
      "duplicate paragraphs": repeats(paragraphs)[0],
      "characters in duplicate paragraphs": repeats(paragraphs)[1],
    }
    for n in (2, 3, 4):
      measured[f"top {n}-gram"] = in_ngrams(units, longer * n, top)
    for n in range(5, 11):
      measured[f"duplicate {n}-grams"] = in_ngrams(units, longer * n, twice)
    # A bound that is the measure keeps the text; the next number below drops
    # it. So the two are the same number.
    for below in (0.0, 1e-12):
      at = {name: max(0.0, v - below) for name, v in measured.items()}
      options = gopher.Options(
        max_duplicate_lines=at["duplicate lines"],
        max_duplicate_line_chars=at["characters in duplicate lines"],
        max_duplicate_paragraphs=at["duplicate paragraphs"],
        max_duplicate_paragraph_chars=at["characters in duplicate paragraphs"],
        top_ngrams=tuple((n, at[f"top {n}-gram"]) for n in (2, 3, 4)),
        duplicate_ngrams=tuple(
          (n, at[f"duplicate {n}-grams"]) for n in range(5, 11)
        ),
      )
      found = set(gopher.Gopher(options).broken(text)) & set(measured)
      expected = {name for name, v in measured.items() if v} if below else set()
      assert found == expected
    n_broken.update(expected)
  assert min(n_broken[name] for name in measured) >= 3  # none is untried


def test_longer_ngrams_are_dropped_where_shorter_ones_were_within_bounds():
  """A large n may have the smaller bound, and is then looked at by itself."""
  # Ten words twice among a hundred: they cover a fifth at every n up to 10.
  words = distinct(90)
  text = " ".join(words[:50] + words[10:20] + words[50:])
  for n, bound, expected in ((5, 0.25, False), (10, 0.1, True)):
    options = gopher.Options(duplicate_ngrams=((5, 0.25), (n, bound)))
    rules = list(gopher.Gopher(options).broken(text))
    assert (f"duplicate {n}-grams" in rules) == expected


@pytest.mark.parametrize(
  ("values", "part"),
  [
    ({"off": ("few word",)}, "off='few word' is not a rule; did you mean 'few"),
    ({"max_bullet_lines": 1.5}, "max_bullet_lines=1.5 must be a share"),
    ({"min_alphabetic": -0.1}, "min_alphabetic=-0.1 must be a share"),
    ({"min_words": -1}, "min_words=-1 must be at least 0"),
    ({"max_word_length": float("nan")}, "max_word_length=nan must be at least"),
    ({"top_ngrams": ((0, 0.2),)}, "top_ngrams has (0, 0.2); write (n, share)"),
    ({"duplicate_ngrams": ((5, 2.0),)}, "duplicate_ngrams has (5, 2.0)"),
    ({"stop_words": ("of the",)}, "stop_words has 'of the', which is not one"),
    ({"stop_words": ("the",)}, "min_stop_words=2 is more than the 1 in stop"),
  ],
)
def test_gopher_refuses_impossible_options(values, part):
  assert error(gopher.Options, **values).startswith(f"data.opts.gopher.{part}")


def test_a_rule_of_an_ngram_that_is_not_asked_for_has_no_name():
  assert gopher.Options(off=("top 2-gram",)).off
  message = error(gopher.Options, off=("top 2-gram",), top_ngrams=())
  assert "off='top 2-gram' is not a rule" in message
