"""Rules: each at both sides of its border, and against plain slow counting."""

import random
from collections import Counter

import dirty
import pytest

from ablax.data.cleaning import c4, fineweb, gopher
from ablax.errors import UserError

PROVES = (
  "cleaning step:gopher",
  "cleaning step:c4",
  "cleaning step:fineweb",
)


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


# C4.


@pytest.fixture(scope="module")
def tfds():
  """TensorFlow Datasets' C4, with a splitter that needs no trained model."""
  return pytest.importorskip("tensorflow_datasets.text.c4_utils")


def pages(rng, n):
  """Pages of lines of every kind that C4 tells apart."""
  good = "The quiet river follows the garden. It crosses a narrow bridge!"
  kinds = [
    *["The old captain remembers what the letter said."] * 3,
    *[good, 'Of all the words he said one: "stop."', "Is it the last one?"],
    *["Four words are here.", "No mark at the end of this line"],
    *["The story goes on and on...", "Please enable JavaScript to see this."],
    *["By reading on you accept our Terms of Use.", "x" * 1001 + " a b c d."],
    *["The river [citation needed] is long[12].", "Too few [edit] [3] x y z."],
    *["Lorem ipsum dolor sit amet, he said.", "if (x) { return y to me. }."],
    "",
  ]
  weights = [3] * 6 + [1] * 8 + [0.3, 0.3, 1]
  for _ in range(n):
    yield "\n".join(rng.choices(kinds, weights, k=rng.randrange(1, 7)))


def test_pages_are_dropped_as_by_tensorflow_datasets(tfds, monkeypatch):
  def sentences(line):
    ends = line.replace('."', ".").split(" ")
    return [word for word in ends if word.endswith((".", "?", "!"))] or [line]

  monkeypatch.setattr(tfds, "_get_sentences", sentences)
  step, clean = c4.C4(c4.Options()), tfds.get_clean_page_fn()
  reasons = {
    "filtered:squigglybracket": "c4: curly bracket",
    "filtered:loremipsum": "c4: lorem ipsum",
    "filtered:too_few_sentences": "c4: few sentences",
    "passed": "",
  }
  seen = Counter()
  for page in pages(random.Random(4), 400):
    counted = []
    list(
      clean(
        tfds.PageFeatures(text=page),
        counter_inc_fn=counted.append,
      )
    )
    theirs = reasons[counted[-1]]
    ours = {f"c4: {rule}" for rule in step.broken(page)}
    # They stop at the first of several, in the order of the lines.
    assert theirs in ours or (not theirs and not ours), page
    (first,) = step.judge([page])
    assert first.reason == theirs or len(ours) > 1
    seen[theirs] += 1
  assert min(seen[reason] for reason in reasons.values()) >= 10


SENTENCE = "A short line of five words."


@pytest.mark.parametrize(
  ("kept", "dropped", "rule"),
  [
    (f"{SENTENCE}\n" * 3, f"{SENTENCE}\n" * 2, "few sentences"),
    (f"{SENTENCE} " * 3, f"{SENTENCE} " * 2, "few sentences"),
    ("a b c d e.\n" * 3, "a b c d.\n" * 3, "few sentences"),
    (
      "这里正好有十个中文字。" * 3,
      "这里正好有十个中文字。" * 2,
      "few sentences",
    ),
    (
      "这里正好有十个中文字。\n" * 3,
      "这里只有九个中文字。\n" * 3,
      "few sentences",
    ),
    (f"{SENTENCE}\n" * 3 + "}", f"{SENTENCE}\n" * 3 + "{", "curly bracket"),
    (
      f"{SENTENCE}\n" * 3 + "lorem",
      f"{SENTENCE}\n" * 3 + "LOREM ipsum",
      "lorem ipsum",
    ),
    (
      f"{'x' * 1000} {SENTENCE}\n" * 3,
      f"{'x' * 1001} {SENTENCE}\n" * 3,
      "few sentences",
    ),
  ],
)
def test_c4_at_both_sides_of_each_border(kept, dropped, rule):
  step = c4.C4(c4.Options())
  assert [v.reason for v in step.judge([kept, dropped])] == ["", f"c4: {rule}"]
  assert not c4.C4(c4.Options(off=(rule,))).judge([dropped])[0].reason


def test_c4_refuses_impossible_options():
  assert error(c4.Options, off=("curly",)).startswith(
    "data.opts.c4.off='curly' is not a rule; did you mean 'curly bracket'?"
  )
  message = error(c4.Options, min_sentences=-1)
  assert message == "data.opts.c4.min_sentences=-1 must be at least 0"
  message = error(c4.Options, max_word_length=0)
  assert message == "data.opts.c4.max_word_length=0 must be at least 1"


# FineWeb. A text at a bound is dropped, as the paper has it.


def shaped(n, n_marked, n_short, short=29):
  """n different lines: some end with a mark, some are short."""
  lines = []
  for i in range(n):
    length = short if i < n_short else 30
    end = "." if i < n_marked else ";"
    lines.append(f"{i:03}".ljust(length - 1, "x") + end)
  return "\n".join(lines)


def copies(n, n_copies):
  """n lines of 40 characters, so many of which repeat the first."""
  lines = [f"{i:03}".ljust(39, "x") + "." for i in range(n - n_copies)]
  return "\n\n".join(lines + lines[:1] * n_copies)


HAN_LINE = "".join(HAN[:8]) + "。甲"  # 9 characters as long as 27, and a mark
FINEWEB = {
  "few lines end with a mark": (shaped(100, 13, 0), shaped(100, 12, 0)),
  "characters in duplicate lines": (copies(100, 9), copies(100, 10)),
  "short lines": (shaped(100, 100, 66), shaped(100, 100, 67)),
  "short lines, length": (
    shaped(100, 100, 67, short=30),
    shaped(100, 100, 67, short=29),
  ),
}


@pytest.mark.parametrize("rule", FINEWEB)
def test_fineweb_at_both_sides_of_each_border(rule):
  kept, dropped = FINEWEB[rule]
  name = rule.removesuffix(", length")
  step = fineweb.FineWeb(fineweb.Options())
  assert list(step.broken(kept)) == []
  assert list(step.broken(dropped)) == [name]
  assert step.judge([dropped])[0].reason == f"fineweb: {name}"
  off = fineweb.FineWeb(fineweb.Options(off=(name,)))
  assert not off.judge([dropped])[0].reason


def test_a_chinese_line_of_ten_characters_is_not_short():
  step = fineweb.FineWeb(fineweb.Options())
  ten = "\n".join("".join(HAN[9 * i : 9 * i + 9]) + "的。" for i in range(9))
  eight = "\n".join("".join(HAN[9 * i : 9 * i + 9]) + "。" for i in range(9))
  assert list(step.broken(ten)) == []  # 10 characters of 3, and a mark
  assert list(step.broken(eight)) == ["short lines"]  # 28


def test_fineweb_refuses_impossible_options():
  assert error(fineweb.Options, off=("short",)).startswith(
    "data.opts.fineweb.off='short' is not a rule; did you mean 'short lines'?"
  )
  message = error(fineweb.Options, max_short_lines=2.0)
  assert message == (
    "data.opts.fineweb.max_short_lines=2.0 must be a share, in [0, 1]"
  )
  message = error(fineweb.Options, short_line=0)
  assert message == "data.opts.fineweb.short_line=0 must be at least 1"
