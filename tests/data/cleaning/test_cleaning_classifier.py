"""Classifier: the model that scikit-learn's own pipeline trains, by labels."""

import hashlib
import json
import math
import pickle
import random
import re

import dirty
import numpy as np
import pytest

from ablax.data.cleaning import classifier as module
from ablax.data.cleaning.classifier import Classifier, Options
from ablax.errors import UserError

PROVES = ("cleaning step:classifier",)

SPAM = str.split(
  "buy now cheap offer click here best price free shipping order today watches"
  " pills casino bonus winner discount limited sale deal credit loan"
)


def spam(rng):
  return " ".join(rng.choices(SPAM + dirty.NOUNS[:8], k=30))


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
  monkeypatch.setenv("ABLAX_CACHE", str(tmp_path / "cache"))


def write(folder, good, bad):
  for name, texts in (("good", good), ("bad", bad)):
    lines = [json.dumps({"text": text, "id": 0}) for text in texts]
    (folder / f"{name}.jsonl").write_text("\n".join(lines))


@pytest.fixture
def labelled(tmp_path):
  """Three good texts to two bad ones, in both scripts."""
  rng = random.Random(0)
  good = [dirty.english(rng, 3) for _ in range(12)]
  good += [dirty.chinese(rng, 3) for _ in range(12)]
  bad = [spam(rng) for _ in range(8)]
  bad += [
    "便宜 促销 点击 免费 " * 3 + rng.choice("一二三四五") for _ in range(8)
  ]
  write(tmp_path, good, list(dict.fromkeys(bad)))
  return good, list(dict.fromkeys(bad))


def step(folder, **options):
  return Classifier(
    Options((f"{folder}/good.jsonl",), (f"{folder}/bad.jsonl",), **options)
  )


def error(make, *args, **values):
  with pytest.raises(UserError) as caught:
    make(*args, **values)
  assert "\n" not in str(caught.value)
  return str(caught.value)


def test_probabilities_are_those_of_a_pipeline_that_hashes_otherwise(
  tmp_path, labelled
):
  from sklearn.feature_extraction.text import HashingVectorizer
  from sklearn.linear_model import LogisticRegression

  good, bad = labelled
  rng = random.Random(1)
  texts = [dirty.english(rng, 2), dirty.chinese(rng, 2), spam(rng), "", *bad]
  texts += [f"{spam(rng)} {dirty.english(rng, 2)}" for _ in range(5)]
  hashing = HashingVectorizer(
    alternate_sign=False,
    binary=True,
    ngram_range=(1, 2),
    tokenizer=re.compile(r"[\u4e00-\u9fff]|[^\W\u4e00-\u9fff]+").findall,
    token_pattern=None,
  )
  train = hashing.transform(good + bad)
  used = train.getnnz(axis=0) > 0
  peer = LogisticRegression(C=10.0, class_weight="balanced", max_iter=1000)
  peer.fit(train[:, used], np.arange(train.shape[0]) < len(good))
  theirs = peer.predict_proba(hashing.transform(texts)[:, used])[:, 1]
  ours = [step(tmp_path).probability(text) for text in texts]
  # Both solvers stop at a gradient of 1e-4, in another order of the features.
  np.testing.assert_allclose(ours, theirs, atol=1e-3)
  assert min(ours) < 0.1 and max(ours) > 0.9


def test_heldout_figures_are_those_of_a_plain_cross_validation(
  tmp_path, labelled
):
  good, bad = labelled
  right = n_kept = n_dropped = 0
  for k in range(5):
    folder = tmp_path / str(k)
    folder.mkdir()
    write(
      folder,
      [text for i, text in enumerate(good) if i % 5 != k],
      [text for i, text in enumerate(bad) if i % 5 != k],
    )
    # Six of one kind are left in a fold: enough for a model of its own.
    model = step(folder)
    for i, text in enumerate(good):
      if i % 5 == k:
        right += model.probability(text) >= 0.5
        n_kept += model.probability(text) >= 0.9
    for i, text in enumerate(bad):
      if i % 5 == k:
        right += model.probability(text) < 0.5
        n_dropped += model.probability(text) < 0.9
  assert step(tmp_path, threshold=0.9).facts() == {
    "good_texts": len(good),
    "bad_texts": len(bad),
    "heldout_accuracy": pytest.approx(right / (len(good) + len(bad))),
    "heldout_good_kept": pytest.approx(n_kept / len(good)),
    "heldout_bad_dropped": pytest.approx(n_dropped / len(bad)),
  }
  assert right > 0.9 * (len(good) + len(bad))  # what was planted is learnt


def test_labels_without_meaning_are_not_learnt(tmp_path):
  rng = random.Random(2)
  texts = [spam(rng) for _ in range(120)]
  write(tmp_path, texts[::2], texts[1::2])
  # Four standard deviations of 120 tosses of a coin.
  accuracy = step(tmp_path).facts()["heldout_accuracy"]
  assert abs(accuracy - 0.5) < 4 * 0.5 / math.sqrt(120)


def test_planted_spam_is_dropped_and_clean_text_is_not(tmp_path, labelled):
  rng = random.Random(3)
  clean = [d.text for d in dirty.corpus(7) if d.kind in ("english", "chinese")]
  found = step(tmp_path).judge([*clean, *(spam(rng) for _ in range(9))])
  assert [verdict.reason for verdict in found] == [""] * len(clean) + [
    "classifier: low quality"
  ] * 9


def test_a_text_at_the_threshold_is_kept(tmp_path, labelled):
  text = dirty.english(random.Random(4), 3)
  p = step(tmp_path).probability(text)
  for threshold, kept in ((p, True), (float(np.nextafter(p, 1)), False)):
    (verdict,) = step(tmp_path, threshold=threshold).judge([text])
    assert (verdict.reason == "") == kept


def test_a_pareto_draw_keeps_as_many_as_numpys_does(tmp_path, monkeypatch):
  """Brown et al.: kept if np.random.pareto(9) is more than 1 - P(good)."""
  n, alpha = 4000, 9.0
  texts = [f"text {i}" for i in range(n)]
  for p in (0.5, 0.8, 0.95):
    model = step(tmp_path, threshold=1.0, pareto=alpha)
    monkeypatch.setattr(model, "probability", lambda text, p=p: p)
    ours = sum(verdict.reason == "" for verdict in model.judge(texts)) / n
    draws = np.random.default_rng(0).pareto(alpha, 200_000)
    theirs = float((draws > 1 - p).mean())
    # Four standard deviations of a share of 4000 (of 200,000: a seventh).
    assert abs(ours - theirs) < 4.1 * math.sqrt(theirs * (1 - theirs) / n)
    # Text that is over the threshold is kept whatever is drawn.
    model = step(tmp_path, threshold=p, pareto=alpha)
    monkeypatch.setattr(model, "probability", lambda text, p=p: p)
    assert not any(verdict.reason for verdict in model.judge(texts[:100]))


def test_it_is_trained_once_and_again_for_other_labels_or_options(
  tmp_path, labelled, monkeypatch
):
  trained = []
  fit = module._fit
  monkeypatch.setattr(
    module, "_fit", lambda *args: trained.append(0) or fit(*args)
  )
  first = step(tmp_path)
  first.facts()
  assert len(trained) == 6  # five folds, and all
  again = step(tmp_path, threshold=0.7, pareto=2.0)
  assert again.facts()["heldout_accuracy"] == first.facts()["heldout_accuracy"]
  assert len(trained) == 6
  step(tmp_path, c=1.0).facts()
  assert len(trained) == 12
  with (tmp_path / "bad.jsonl").open("a") as file:
    file.write('\n{"text": "one more offer"}\n')
  other = step(tmp_path)
  other.facts()
  assert len(trained) == 18
  assert other.fingerprint != first.fingerprint == again.fingerprint


def test_once_trained_it_goes_to_other_machines_without_its_files(
  tmp_path, labelled, monkeypatch
):
  model = step(tmp_path)
  model.facts()
  text = labelled[0][0]
  expected = model.probability(text), model.fingerprint
  packed = pickle.dumps(model)
  (tmp_path / "good.jsonl").unlink()
  monkeypatch.setenv("ABLAX_CACHE", str(tmp_path / "other"))
  copy = pickle.loads(packed)
  assert (copy.probability(text), copy.fingerprint) == expected


def test_equal_texts_are_one_so_that_no_fold_sees_what_it_is_tested_on(
  tmp_path,
):
  rng = random.Random(5)
  good = [dirty.english(rng, 2) for _ in range(6)]
  write(tmp_path, good * 3, [spam(rng) for _ in range(6)])
  assert step(tmp_path).facts()["good_texts"] == 6


def test_plain_text_is_read_by_paragraphs_and_folders_whole(tmp_path):
  rng = random.Random(6)
  (tmp_path / "good").mkdir()
  (tmp_path / "good" / "a.txt").write_text(dirty.english(rng, 40))
  (tmp_path / "bad.txt").write_text("\n".join(spam(rng) for _ in range(7)))
  options = Options(
    (f"{tmp_path}/good",), (f"{tmp_path}/bad.txt",), documents="line"
  )
  facts = Classifier(options).facts()
  assert (facts["good_texts"], facts["bad_texts"]) == (10, 7)


def test_missing_labels_are_told_by_the_key_that_lacks_them(tmp_path):
  five = "\n\n".join("abcde...")
  (tmp_path / "a.txt").write_text(five)
  (tmp_path / "b.txt").write_text("one\n\ntwo\n\none\n\n...\n\n!\n\n?")
  (tmp_path / "c.jsonl").write_text('{"body": "x"}')
  a, b, c = (f"{tmp_path}/{n}" for n in ("a.txt", "b.txt", "c.jsonl"))
  assert error(Classifier, Options((a,))).startswith(
    "data.opts.classifier.bad is empty; name files with bad texts there"
  )
  assert error(Classifier, Options(bad=(a,))).startswith(
    "data.opts.classifier.good is empty"
  )
  for good, bad, part in (
    (f"{a}x", b, "data.opts.classifier.good names"),
    (a, f"{b}x", "data.opts.classifier.bad names"),
    (
      a,
      b,
      "data.opts.classifier.bad holds 2 different texts with words, and at",
    ),
    (c, b, "set data.opts.classifier.column to one"),
  ):
    message = error(Classifier(Options((good,), (bad,))).facts)
    assert part in message and "opts.text" not in message


def test_labels_that_change_while_they_are_read_are_refused(tmp_path, labelled):
  model = step(tmp_path)
  assert model.fingerprint
  with (tmp_path / "bad.jsonl").open("a") as file:
    file.write('\n{"text": "one more offer"}\n')
  assert "good and bad changed while they were read" in error(model.facts)


@pytest.mark.parametrize(
  ("values", "part"),
  [
    ({"threshold": 1.5}, "threshold=1.5 must be a share, in [0, 1]"),
    ({"pareto": -1.0}, "pareto=-1.0 must be at least 0"),
    ({"ngrams": 0}, "ngrams=0 must be at least 1"),
    ({"bits": 0}, "bits=0 must be at least 1"),
    ({"bits": 40}, "bits=40 is a table of 4,398,046,511,104 bytes; set it to"),
    ({"c": 0.0}, "c=0.0 must be positive"),
    ({"documents": "lines"}, "documents='lines' is not one of file, line"),
  ],
)
def test_impossible_options_are_refused(values, part):
  assert error(Options, **values).startswith(f"data.opts.classifier.{part}")


def test_the_draw_is_made_from_the_text_alone():
  """So that a text is kept or dropped alike in every process and order."""
  digest = hashlib.blake2b(b"text 7", digest_size=8).digest()
  draw = int.from_bytes(digest, "little") / 2**64
  chance = 1.5**-9.0  # of P(good) = 1/2
  model = Classifier(Options(("x",), ("y",), threshold=1.0, pareto=9.0))
  model.probability = lambda text: 0.5
  assert (model.judge(["text 7"])[0].reason == "") == (draw < chance)
