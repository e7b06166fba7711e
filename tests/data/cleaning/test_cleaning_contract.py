"""What every cleaning step keeps: pure, picklable, the same in any batches."""

import json
import multiprocessing
import pickle
import random

import dirty
import pytest

from ablax.data.cleaning import CLEANERS, Duplicates, Filter, Verdict
from ablax.registry import NoOptions

DOCUMENTS = dirty.corpus()
TEXTS = [document.text for document in DOCUMENTS]
# Odd ones: nothing, white space, other scripts, what UTF-8 cannot hold.
ODD = ["", " \n\t", "\ud800", "a", "我", "\u0301", "\x00", "#", "x" * 3000]


@pytest.fixture(scope="module", params=CLEANERS)
def step(request, tmp_path_factory):
  """The step with its defaults; the classifier with labels."""
  folder = tmp_path_factory.mktemp("labels")
  options = CLEANERS.options(request.param)
  values = {}
  if request.param == "classifier":
    for name, kind in (("good", "english"), ("bad", "code")):
      texts = [d.text for d in DOCUMENTS if d.kind == kind]
      (folder / f"{name}.jsonl").write_text(
        "\n".join(json.dumps({"text": text}) for text in texts)
      )
      values[name] = (f"{folder}/{name}.jsonl",)
  patch = pytest.MonkeyPatch()
  patch.setenv("ABLAX_CACHE", str(folder / "cache"))
  yield CLEANERS[request.param](options(**values))
  patch.undo()


def applied(step, texts):
  """What a step says of texts, filter or not."""
  if isinstance(step, Duplicates):
    return step.sign(texts)
  return step.judge(texts)


def batched(step, texts, sizes):
  found = []
  for size in sizes:
    found += applied(step, texts[:size])
    texts = texts[size:]
  return found + applied(step, texts)


def test_a_step_is_a_filter_or_finds_duplicates(step):
  assert isinstance(step, Filter) != isinstance(step, Duplicates)


def test_batches_and_order_do_not_change_what_is_said(step):
  texts = TEXTS + ODD
  whole = applied(step, texts)
  assert len(whole) == len(texts)
  assert batched(step, texts, (1, 0, 7, 2)) == whole
  order = random.Random(0).sample(range(len(texts)), len(texts))
  shuffled = applied(step, [texts[i] for i in order])
  assert [shuffled[order.index(i)] for i in range(len(texts))] == whole


def test_a_pickled_step_says_the_same_before_and_after_its_first_use(step):
  texts = TEXTS[::5] + ODD
  fresh = pickle.loads(pickle.dumps(step))
  expected = applied(step, texts)
  assert applied(fresh, texts) == expected
  assert applied(pickle.loads(pickle.dumps(step)), texts) == expected


def test_what_is_said_is_plain(step):
  for said in applied(step, TEXTS + ODD):
    if isinstance(step, Duplicates):
      assert type(said) is bytes and len(said) < 1000
      assert all(type(key) is bytes for key in step.keys(said))
    else:
      assert type(said) is Verdict
      assert type(said.reason) is str and type(said.note) is str
      assert "\n" not in said.reason


def test_facts_and_fingerprint_are_plain_where_there_are_any(step):
  if hasattr(step, "facts"):
    assert json.loads(json.dumps(step.facts())) == step.facts()
  if hasattr(step, "fingerprint"):
    assert len(step.fingerprint) == 64
    assert pickle.loads(pickle.dumps(step)).fingerprint == step.fingerprint


@pytest.mark.parametrize("name", CLEANERS)
def test_every_step_has_options_of_its_own(name):
  assert CLEANERS.options(name) is not NoOptions
  assert all(CLEANERS.citation(name))


def _said(step):
  return [applied(one, TEXTS[::5] + ODD) for one in step]


def test_a_new_process_says_the_same():
  names = [name for name in CLEANERS if name != "classifier"]
  steps = [CLEANERS[name](CLEANERS.options(name)()) for name in names]
  with multiprocessing.get_context("spawn").Pool(1) as pool:
    assert pool.apply(_said, (steps,)) == _said(steps)


# Which of the planted documents each filter drops, and why.
PLANTED = {
  "gopher": {
    "few words": "gopher: few words",
    "duplicate lines": "gopher: duplicate lines",
    "menu": "gopher: bullet lines",
    "french": "gopher: few stop words",
  },
  "c4": {
    "code": "c4: curly bracket",
    "lorem ipsum": "c4: lorem ipsum",
    "few words": "c4: few sentences",
    "duplicate lines": "c4: few sentences",
    "menu": "c4: few sentences",
  },
  "fineweb": {
    "duplicate lines": "fineweb: few lines end with a mark",
    "menu": "fineweb: few lines end with a mark",
  },
}


@pytest.mark.parametrize("name", PLANTED)
def test_planted_dirt_is_dropped_for_its_reason_and_the_rest_is_kept(name):
  step = CLEANERS[name](CLEANERS.options(name)())
  for document, verdict in zip(DOCUMENTS, step.judge(TEXTS), strict=True):
    kind = document.kind
    if document.origin >= 0:
      kind = DOCUMENTS[document.origin].kind
    if kind == "code" and name != "c4":
      continue  # rules of prose: what they say of code is not a claim
    assert verdict.reason == PLANTED[name].get(kind, ""), document
