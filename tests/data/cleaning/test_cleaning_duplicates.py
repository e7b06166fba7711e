"""Duplicates: what is found, against counting, datasketch and closed forms."""

import itertools
import math
import random
import re
from collections import defaultdict

import datasketch
import dirty
import numpy as np
import pytest

from ablax.data.cleaning import CLEANERS, duplicates
from ablax.data.cleaning.exact import Exact
from ablax.data.cleaning.exact import Options as ExactOptions
from ablax.data.cleaning.minhash import MinHash, Options, bands_and_rows
from ablax.errors import UserError

PROVES = ("cleaning step:exact", "cleaning step:minhash")


def error(options, **values):
  with pytest.raises(UserError) as caught:
    options(**values)
  assert "\n" not in str(caught.value)
  return str(caught.value)


# The rule.


class Planted:
  """Signatures are b"keys|group": given buckets, and who is the same."""

  reason = "planted"

  def __init__(self, options=None):
    pass

  def sign(self, texts):
    return [text.encode() for text in texts]

  def keys(self, signature):
    return [bytes((key,)) for key in signature.split(b"|")[0]]

  def same(self, first, later):
    return first.split(b"|")[1] == later.split(b"|")[1]


def by_buckets(step, signatures, order):
  """The rule as a MapReduce: each bucket by itself, in any order."""
  buckets = defaultdict(list)
  for i in order:
    for key in step.keys(signatures[i]):
      buckets[key].append(i)
  votes = defaultdict(list)
  for members in buckets.values():
    first = min(members)
    for i in members:
      if i != first and step.same(signatures[first], signatures[i]):
        votes[i].append(first)
  return [min(votes[i], default=-1) for i in range(len(signatures))]


def test_a_document_duplicates_the_first_of_one_of_its_buckets():
  step = Planted()
  texts = [
    "a|x",  # 0 is kept
    "ab|x",  # 1 duplicates 0, and is still the first of b
    "b|x",  # 2 duplicates 1
    "ab|y",  # 3 is the same as neither
    "b|y",  # 4 is the same as 3, which is not the first of b: kept
    "ca|x",  # 5 duplicates 0; also the first of c
    "cb|x",  # 6 duplicates 1 and 5: the earlier
    "|x",  # 7 has no bucket
  ]
  found = duplicates(step, step.sign(texts))
  assert found == [-1, 0, 1, -1, -1, 0, 1, -1]


def test_the_rule_is_the_same_for_each_bucket_by_itself_in_any_order():
  rng = random.Random(0)
  for _ in range(100):
    n = rng.randrange(1, 30)
    signatures = [
      "".join(rng.sample("abcdef", rng.randrange(4))).encode()
      + rng.choice([b"|x", b"|y"])
      for _ in range(n)
    ]
    order = rng.sample(range(n), n)
    found = duplicates(Planted(), signatures)
    assert found == by_buckets(Planted(), signatures, order)
    # Following the chain ends at one that is kept.
    assert all(j < i for i, j in enumerate(found))


@pytest.mark.parametrize("name", ["exact", "minhash"])
def test_planted_duplicates_are_found_and_nothing_else(name):
  documents = dirty.corpus()
  step = CLEANERS[name](CLEANERS.options(name)())
  found = duplicates(step, step.sign([d.text for d in documents]))
  kinds = {"exact"} if name == "exact" else {"exact", "near"}
  for document, first in zip(documents, found, strict=True):
    assert first == (document.origin if document.kind in kinds else -1)


# Exact.


@pytest.mark.parametrize(
  ("one", "other", "loose"),
  [
    ("A  b\n", "a b", True),
    ("Stra\u00dfe", "STRASSE", True),
    ("caf\u00e9", "cafe\u0301", True),
    ("\uff21\u3000b", "a b", True),
    ("a b", "ab", False),
    ("a-b", "a b", False),
  ],
)
def test_what_is_equal(one, other, loose):
  for normalize, expected in (("none", False), ("loose", loose)):
    step = Exact(ExactOptions(normalize))
    found = duplicates(step, step.sign([one, other, one, "\ud800"]))
    assert found == [-1, 0 if expected else -1, 0, -1]


def test_an_unknown_normalization_is_refused():
  assert error(ExactOptions, normalize="lose") == (
    "data.opts.exact.normalize='lose' is not one of none, loose; did you mean"
    " 'loose'?"
  )


# MinHash: what the signature estimates.


def shingles(text, n=5):
  """The set of shingles, read from the definition: each Han sign is a word."""
  words = re.findall(r"[\u4e00-\u9fff]|[^\W\u4e00-\u9fff]+", text.lower())
  return {tuple(words[i : i + n]) for i in range(max(1, len(words) - n + 1))}


def jaccard(a, b):
  return len(a & b) / len(a | b)


def pairs():
  """Pairs of texts that share from nothing to all, in two scripts."""
  rng = random.Random(1)
  for make, space in ((dirty.english, " "), (dirty.chinese, "")):
    for share in (0, 0.005, 0.01, 0.02, 0.04, 0.08, 0.2, 1):
      text = make(rng)
      yield text, dirty.edited(rng, text, share, space)


def test_minima_estimate_the_jaccard_index_of_the_shingles():
  k = 2048
  step = MinHash(Options(num_perm=k, bands=1, rows=1))
  errors, spread = [], set()
  for one, other in pairs():
    s = jaccard(shingles(one), shingles(other))
    first, later = step.sign([one, other])
    sd = math.sqrt(s * (1 - s) / k)
    found = step.resemblance(first, later)
    # Four standard deviations of a binomial share: 16 pairs, p < 0.001.
    assert abs(found - s) <= 4 * sd + 1e-9
    errors.append((found - s) / sd if sd else 0)
    spread.add(round(s, 1))
  assert len(spread) >= 6
  # No bias: the mean of standard errors, of 14 pairs that have one.
  assert abs(np.mean(errors)) < 4 / math.sqrt(14)


def test_minima_are_as_good_as_those_of_datasketch():
  """The same pairs under many seeds: neither spreads wider than theory."""
  rng = random.Random(2)
  words = [f"w{i}" for i in range(90)]
  a, b = words[:60], words[30:]  # one third is shared
  one, other = " ".join(a), " ".join(rng.sample(b, len(b)))
  s, k, n = 1 / 3, 64, 120
  ours, theirs = [], []
  for seed in range(n):
    step = MinHash(Options(shingle=1, num_perm=k, bands=1, rows=1, seed=seed))
    ours.append(step.resemblance(*step.sign([one, other])))
    peers = [datasketch.MinHash(k, seed=seed) for _ in range(2)]
    for peer, text in zip(peers, (a, b), strict=True):
      peer.update_batch([word.encode() for word in text])
    theirs.append(peers[0].jaccard(peers[1]))
  sd = math.sqrt(s * (1 - s) / k)
  for found in (ours, theirs):
    assert abs(np.mean(found) - s) < 4 * sd / math.sqrt(n)
    # The standard deviation of a standard deviation is about 1/sqrt(2n) of it.
    assert abs(np.std(found) / sd - 1) < 4 / math.sqrt(2 * n)


@pytest.mark.parametrize("block", [7, 512])
def test_minima_are_bit_for_bit_those_of_datasketch(block, monkeypatch):
  from datasketch.minhash import _fmix

  monkeypatch.setattr("ablax.data.cleaning.minhash._BLOCK", block)
  step = MinHash(Options(num_perm=31, bands=1, rows=1))
  x = np.random.default_rng(0).integers(0, 2**64, 1500, np.uint64)
  peer = datasketch.MinHash(
    31,
    hashfunc=int,
    scheme="affine64",
    permutations=(step._a[:, 0], step._b[:, 0]),
  )
  peer.update_batch(x)
  # It mixes the bits of each hash once more; both keep the order of 64 bits.
  ours = step.minima(_fmix(x, 64))
  np.testing.assert_array_equal(ours, peer.hashvalues >> np.uint64(32))


# MinHash: who becomes a candidate.


def test_candidates_follow_the_s_curve():
  bands, rows, n_words, trials = 8, 4, 60, 300
  n_hit, curve = [], []
  for shared in (15, 30, 40, 48, 54):
    s = shared / (2 * n_words - shared)
    hits = 0
    for seed in range(trials):
      step = MinHash(
        Options(
          shingle=1, num_perm=bands * rows, bands=bands, rows=rows, seed=seed
        )
      )
      one = " ".join(f"w{i}" for i in range(n_words))
      other = " ".join(f"w{i + n_words - shared}" for i in range(n_words))
      first, later = map(step.keys, step.sign([one, other]))
      assert len(set(first)) == bands
      hits += not set(first).isdisjoint(later)
    p = 1 - (1 - s**rows) ** bands
    # Four standard deviations of a share of `trials`.
    assert abs(hits / trials - p) < 4 * math.sqrt(p * (1 - p) / trials), s
    n_hit.append(hits)
    curve.append(p)
  assert n_hit == sorted(n_hit)
  assert curve[0] < 0.05 and curve[-1] > 0.95  # the whole of the curve


@pytest.mark.parametrize("threshold", [0.5, 0.75, 0.9])
@pytest.mark.parametrize("num_perm", [16, 112])
def test_bands_and_rows_are_those_of_datasketch(threshold, num_perm):
  peer = datasketch.MinHashLSH(threshold, num_perm, weights=(0.2, 0.8))
  assert bands_and_rows(threshold, num_perm) == (peer.b, peer.r)
  step = MinHash(Options(threshold, num_perm=num_perm))
  assert step.facts() == {"bands": peer.b, "rows": peer.r}


def test_the_default_split_is_that_of_fineweb():
  assert bands_and_rows(0.75, 112) == (14, 8)


def test_a_candidate_is_a_duplicate_from_the_threshold_on():
  signatures = np.arange(8, dtype="<u4"), np.arange(8, dtype="<u4")
  signatures[1][6:] = 99  # six of eight minima agree
  first, later = (s.tobytes() for s in signatures)
  for threshold, same in ((0.75, True), (0.76, False)):
    step = MinHash(Options(threshold, num_perm=8, bands=4, rows=2))
    assert step.same(first, later) == same
    assert step.resemblance(first, later) == 0.75


def test_bands_are_different_buckets_even_where_their_minima_are_equal():
  step = MinHash(Options(num_perm=4, bands=2, rows=2))
  assert len(set(step.keys(np.zeros(4, "<u4").tobytes()))) == 2


def test_case_spaces_and_punctuation_do_not_count_but_order_does():
  step = MinHash(Options())
  text = " ".join(f"w{i}" for i in range(40))
  other = text.upper().replace(" ", ",\n  ")
  backwards = " ".join(f"w{i}" for i in reversed(range(40)))
  a, b, c = step.sign([text, other, backwards])
  assert a == b and step.resemblance(a, c) < 0.1


def test_texts_shorter_than_a_shingle_are_one_and_empty_ones_are_none():
  step = MinHash(Options())
  texts = ["one two", "one, two!", "one", "", "...", "", "我", "我"]
  signatures = step.sign(texts)
  assert duplicates(step, signatures) == [-1, 0, -1, -1, -1, -1, -1, 6]
  assert signatures[3] == b"" and not step.keys(b"")
  assert not step.same(b"", b"")
  assert len(signatures[0]) == 4 * 112


def test_another_seed_gives_other_minima():
  texts = ["a b c d e f g", "h i j k l m n"]
  ours = [MinHash(Options(seed=seed)).sign(texts) for seed in (0, 0, 1)]
  assert ours[0] == ours[1] and ours[0] != ours[2]
  for a, b in itertools.combinations(ours[0] + ours[2], 2):
    assert not np.any(np.frombuffer(a, "<u4") == np.frombuffer(b, "<u4"))


@pytest.mark.parametrize(
  ("values", "part"),
  [
    ({"threshold": 0.0}, "threshold=0.0 must be in (0, 1]"),
    ({"threshold": 1.1}, "threshold=1.1 must be in (0, 1]"),
    ({"shingle": 0}, "shingle=0 must be at least 1"),
    ({"num_perm": 0}, "num_perm=0 must be at least 1"),
    ({"seed": -1}, "seed=-1 must be 0 or positive"),
    ({"bands": 3}, "bands=3 and data.opts.minhash.rows=0 must both be"),
    ({"bands": -1, "rows": -1}, "bands=-1 and"),
    ({"bands": 15, "rows": 8}, "bands=15 times rows=8 is more than num_perm"),
  ],
)
def test_impossible_options_are_refused(values, part):
  assert f"data.opts.minhash.{part}" in error(Options, **values)
