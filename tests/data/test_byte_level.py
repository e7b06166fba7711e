"""Byte-level BPE and WordPiece: the papers' algorithms, by plain loops.

The oracles know nothing of `tokenizers`: words from Unicode's categories, the
training by counting all pairs anew, BPE by applying merges, WordPiece by trying
every length.
"""

import itertools
import json
import random
import unicodedata
from collections import Counter

import pytest

from ablax.data.tokenizers.byte_bpe import ByteBPE
from ablax.data.tokenizers.byte_level import PATTERNS, Options
from ablax.data.tokenizers.measure import HARD
from ablax.data.tokenizers.udhr import ARTICLE_1
from ablax.data.tokenizers.wordpiece import WordPiece

PROVES = ("tokenizer:byte_bpe", "tokenizer:wordpiece")

CORPUS = [
  *ARTICLE_1.values(),
  *HARD.values(),
  "low lower lowest 1999 it's\n",
] * 3
SPACES = {*"\t\n\v\f\r\x85 ", *"\u2028\u2029"}


def is_space(char):
  return char in SPACES or unicodedata.category(char) == "Zs"


def kind(char):
  if is_space(char):
    return "space"
  category = unicodedata.category(char)[0]
  return category if category in "LN" else "other"


def words(text):
  """GPT-2's words, read from left to right."""
  found, i = [], 0
  while i < len(text):
    short = next(
      (s for s in ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")
       if text.startswith(s, i)),
      None,
    )  # fmt: skip
    # A space goes with what follows it, unless that is space, too.
    first = i + (text[i] == " ")
    if short:
      end = i + len(short)
    elif first < len(text) and kind(text[first]) != "space":
      end = first
      while end < len(text) and kind(text[end]) == kind(text[first]):
        end += 1
    else:
      end = i
      while end < len(text) and is_space(text[end]):
        end += 1
      # The last space of several is left to what follows.
      if end < len(text) and end - i > 1:
        end -= 1
    found.append(text[i:end])
    i = end
  return found


def texts():
  """What is hard, and random characters that this Python's Unicode knows."""
  rng = random.Random(1)
  known = [
    chr(i)
    for i in range(0x110000)
    if unicodedata.category(chr(i)) not in ("Cn", "Cs", "Co")
  ]
  strange = ["".join(rng.choices(known, k=30)) for _ in range(100)]
  plain = ["".join(rng.choices("ab1 '\n\tsté-", k=40)) for _ in range(100)]
  return [
    *HARD.values(),
    *ARTICLE_1.values(),
    *strange,
    *plain,
    "a" * 250,
    "#" * 120,
  ]


def trained(cls, vocab_size, **options):
  tokenizer = cls.train(CORPUS, vocab_size, Options(**options))
  pieces = [tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size - 3)]
  assert pieces[:256] == [bytes((byte,)) for byte in range(256)]
  return tokenizer, pieces


def merges(inside, n):
  """Learns n pieces: the most frequent pair, of equal ones the lower ids.

  Args:
    inside: what is added to the id of a byte that does not begin a word.
  """
  counts = Counter(
    tuple(byte + inside * (i > 0) for i, byte in enumerate(word.encode()))
    for text in CORPUS
    for word in words(text)
  )
  # id -> (bytes, whether it stands inside of a word).
  pieces = [(bytes((b,)), False) for b in range(256)]
  pieces += [(bytes((b,)), True) for b in range(256)] if inside else []
  rules = []
  while len(rules) < n:
    pairs = Counter()
    for word, count in counts.items():
      for pair in itertools.pairwise(word):
        pairs[pair] += count
    best = min(pairs, key=lambda pair: (-pairs[pair], pair))
    (left, is_inside), (right, _) = (pieces[i] for i in best)
    pieces.append((left + right, is_inside))
    rules.append((left, right))
    new = len(pieces) - 1
    merged = Counter()
    for word, count in counts.items():
      merged[tuple(replaced(list(word), best, new))] += count
    counts = merged
  return pieces, rules


def replaced(word, pair, new):
  """The word with each pair, from the left, as one piece."""
  i = 0
  while i + 1 < len(word):
    if (word[i], word[i + 1]) == pair:
      word[i : i + 2] = [new]
    i += 1
  return word


def test_byte_bpe_learns_the_most_frequent_pairs():
  tokenizer, pieces = trained(ByteBPE, 256 + 150 + 3)
  expected, rules = merges(0, 150)
  assert pieces == [piece for piece, _ in expected]
  state = json.loads(tokenizer._text)
  spell = {
    c: tokenizer.token_bytes(i) for c, i in state["model"]["vocab"].items()
  }
  learned = [(spell[a], spell[b]) for a, b in state["model"]["merges"]]
  assert learned == rules


def test_wordpiece_learns_the_most_frequent_pairs():
  tokenizer, pieces = trained(WordPiece, 512 + 100 + 3)
  expected, _ = merges(256, 100)
  vocab = json.loads(tokenizer._text)["model"]["vocab"]
  mark = WordPiece.continuation
  inside = [name.startswith(mark) for name, _ in by_id(vocab)]
  assert list(zip(pieces, inside, strict=True)) == expected


def by_id(vocab):
  return sorted(vocab.items(), key=lambda item: item[1])


def test_byte_bpe_applies_its_merges_in_their_order():
  tokenizer, pieces = trained(ByteBPE, 700)
  _, rules = merges(0, 0)
  state = json.loads(tokenizer._text)["model"]
  spell = {name: pieces[i] for name, i in state["vocab"].items()}
  rules = [(spell[a], spell[b]) for a, b in state["merges"]]
  ids = {piece: i for i, piece in enumerate(pieces)}
  for text in texts():
    expected = []
    for word in words(text):
      parts = [bytes((byte,)) for byte in word.encode()]
      for left, right in rules:
        if left in parts:
          parts = replaced(parts, (left, right), left + right)
      expected += [ids[part] for part in parts]
    assert tokenizer.encode(text) == expected, text


def test_wordpiece_takes_the_longest_piece_first():
  tokenizer, pieces = trained(WordPiece, 900)
  vocab = json.loads(tokenizer._text)["model"]["vocab"]
  mark = WordPiece.continuation
  begins = {pieces[i]: i for name, i in vocab.items() if name[0] != mark}
  inside = {pieces[i]: i for name, i in vocab.items() if name[0] == mark}
  for text in texts():
    expected = []
    for whole in words(text):
      utf8 = whole.encode()
      for start in range(0, len(utf8), 64):
        word, known = utf8[start : start + 64], begins
        while word:
          n = next(n for n in range(len(word), 0, -1) if word[:n] in known)
          expected.append(known[word[:n]])
          word, known = word[n:], inside
    assert tokenizer.encode(text) == expected, text


@pytest.mark.parametrize("cls", [ByteBPE, WordPiece])
def test_no_piece_goes_beyond_a_word(cls):
  tokenizer, _ = trained(cls, 900)
  for text in texts():
    pieces = [tokenizer.token_bytes(i) for i in tokenizer.encode(text)]
    ends, n = set(), 0
    for piece in pieces:
      n += len(piece)
      ends.add(n)
    n = 0
    for word in words(text):
      n += len(word.encode())
      assert n in ends


def test_the_pattern_of_gpt4_keeps_case_digits_and_line_ends():
  text = "(1234567 WE'LL x;\n\n  y)\n"
  # As many pieces as the text has pairs: each word is a token.
  tokenizer = ByteBPE.train([text] * 9, 272, Options(pattern="gpt4"))
  assert [tokenizer.token_bytes(i) for i in tokenizer.encode(text)] == [
    *(b"(", b"123", b"456", b"7", b" WE", b"'LL", b" x", b";\n\n"),
    *(b" ", b" y", b")\n"),
  ]


def test_a_pattern_of_ones_own_cuts_where_it_says():
  pattern = PATTERNS["gpt2"].replace(r" ?\p{L}+", r"\p{L}{1,2}")
  tokenizer = ByteBPE.train(
    ["abcdef"] * 9, 256 + 3 + 3, Options(pattern=pattern)
  )
  tokens = [tokenizer.token_bytes(i) for i in tokenizer.encode("abcdef")]
  assert tokens == [b"ab", b"cd", b"ef"]
