"""C4 and FineWeb: each rule at both sides of its border, and beside TFDS."""

import random
from collections import Counter

import pytest

from ablax.data.cleaning import c4, fineweb
from ablax.errors import UserError

PROVES = ("cleaning step:c4", "cleaning step:fineweb")

HAN = [chr(0x4E10 + i) for i in range(4000)]


def error(options, **values):
  with pytest.raises(UserError) as caught:
    options(**values)
  assert "\n" not in str(caught.value)
  return str(caught.value)


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
