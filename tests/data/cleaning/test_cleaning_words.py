"""Words as numbers: the same words that a plain loop finds, in any script."""

import random
import re
import unicodedata

import pytest

from ablax.data.cleaning import words as w

# A separate statement of which scripts have no spaces between words.
UNSPACED = re.compile(
  "[\u0e01-\u0eff\u1000-\u109f\u1780-\u17d3\u3005-\u3007\u3041-\u30fa\u30fc-\u30ff"
  "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9d"
  "\U00020000-\U000323af]"
)
ALPHABET = (
  "ab zé_İß09 .,-#…\n\t«»，。！「」的是了あアกខက हिनदीा"
  "가나ｱ々ກကក豈ㇰ\U0001f600\U00020001\ud800e\u0301"
)


def is_word(c):
  return c.isalnum() or c == "_" or unicodedata.category(c)[0] == "M"


def slow(text, is_inside, joins_marks=False):
  """Returns (start, end) of each word, by a loop over the characters."""
  found, start = [], None
  for i, c in enumerate(text + " "):
    unspaced = UNSPACED.match(c) is not None
    inside = i < len(text) and not unspaced and is_inside(c)
    if start is not None and not inside:
      found.append((start, i))
      start = None
    if inside and start is None:
      start = i
    if unspaced and i < len(text):
      found.append((i, i + 1))
  if joins_marks:  # bare marks beside an unspaced character are no word
    padded = f" {text} "
    found = [
      (a, b)
      for a, b in found
      if any(is_word(c) or UNSPACED.match(c) for c in text[a:b])
      or not (UNSPACED.match(padded[a]) or UNSPACED.match(padded[b + 1]))
    ]
  return found


def texts(n=300):
  rng = random.Random(0)
  return ["", " ", "a", "的", "。"] + [
    "".join(rng.choices(ALPHABET, k=rng.randrange(1, 40))) for _ in range(n)
  ]


def test_words_and_chunks_are_those_of_a_loop_over_the_characters():
  for text in texts():
    folded = unicodedata.normalize("NFC", text).lower()
    found = w.words(text)
    spans = list(zip(found.starts, found.ends, strict=True))
    assert spans == slow(folded, is_word), repr(text)
    found = w.chunks(text)
    spans = list(zip(found.starts, found.ends, strict=True))
    assert spans == slow(text, lambda c: not c.isspace(), True), repr(text)
    for (a, b), has in zip(spans, found.has_letter, strict=True):
      expected = any(c.isalpha() or UNSPACED.match(c) for c in text[a:b])
      assert has == expected, repr(text[a:b])


def test_hashes_are_equal_where_the_words_are_and_nowhere_else():
  names: dict[int, str] = {}
  for text in texts(1000):
    folded = unicodedata.normalize("NFC", text).lower()
    found = w.words(text)
    for a, b, h in zip(found.starts, found.ends, found.hashes, strict=True):
      assert names.setdefault(int(h), folded[a:b]) == folded[a:b]
  assert len(set(names.values())) == len(names) > 500


def test_ngrams_are_equal_where_all_their_words_are():
  found = w.words("a b c x a b c y a c b")
  for n in (1, 2, 3, 4):
    words = [*"abcxabcyacb"]
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    hashes = w.ngrams(found.hashes, n).tolist()
    assert len(hashes) == len(grams)
    assert len(set(hashes)) == len(set(grams))
    for i, h in enumerate(hashes):
      assert [h == g for g in hashes] == [grams[i] == g for g in grams]
  assert not len(w.ngrams(found.hashes, 12))
  assert w.hash_of("B, c") == (2, int(w.ngrams(found.hashes, 2)[1]))
  assert w.hash_of("...") == (0, 0)


@pytest.mark.parametrize(
  ("text", "count", "mostly"),
  [
    ("one two three", 3.0, False),
    ("我爱北京。", 2.0, True),
    ("one 我爱", 2.0, False),  # one word of each: not most
    ("one 我爱北", 2.5, True),
    ("", 0.0, False),
  ],
)
def test_two_characters_without_spaces_are_a_word(text, count, mostly):
  found = w.chunks(text)
  assert found.n_words == count
  assert found.mostly_unspaced == mostly


def test_composed_and_decomposed_letters_are_the_same_word():
  assert w.hash_of("café") == w.hash_of("cafe\u0301") == w.hash_of("CAFÉ")
