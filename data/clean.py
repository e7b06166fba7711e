"""Which documents are kept: the cleaning steps, over the whole corpus."""

import hashlib
import itertools
import json
import pathlib
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from . import work
from .cache import cached, root
from .cleaning import CLEANERS, duplicates
from .config import DataConfig
from .passes import Decisions, Pass, passes
from .texts import Text, Track, batched

FORMAT = 1  # of what is in the cache; raise it when that changes

Facts = dict[str, dict[str, Any]]  # step -> what it says of itself


def clean(
  config: DataConfig,
  texts: Callable[[], Iterator[Text]],
  fingerprint: str,
  n_bytes: int,
  track: Track,
  workers: work.Workers = work.ALONE,
  beam: str | None = None,
) -> tuple[Decisions, Facts]:
  """Returns the decisions of `config.clean`, from the cache if they are there.

  Args:
    texts: gives all documents, the same each time.
    fingerprint: of those documents.
    n_bytes: of UTF-8, about.
    workers: the result does not depend on them.
    beam: flags of Apache Beam, which then does the work; nor on this.
  """
  steps = make_steps(config)
  # Before the steps are named: what one learns now is part of its name.
  facts = {
    name: step.facts() for name, step in steps.items() if hasattr(step, "facts")
  }
  key = _key(config, steps, fingerprint)

  def tracked(what: str) -> Iterator[Text]:
    return track(f"cleaning: {what}", texts(), n_bytes)

  def build(folder: pathlib.Path) -> None:
    with work.unfinished(f"clean-{key}") as unfinished:
      if beam is None:
        decisions = _decide(list(steps.values()), tracked, unfinished, workers)
      else:
        from .beam import decide

        decisions = decide(config, list(steps.values()), beam, unfinished)
    decisions.save(folder)

  folder = cached(root() / "cleaned" / key, build)
  return Decisions.load(folder), facts


def make_steps(config: DataConfig) -> dict[str, Any]:
  """Returns the steps by name, in the order of the config."""
  return {
    name: CLEANERS[name](config.opts.get(name, CLEANERS.options(name)()))
    for name in config.clean
  }


def _key(config: DataConfig, steps: dict[str, Any], fingerprint: str) -> str:
  parts = [
    (
      name,
      # A plugin's step may change from one day to the next.
      pathlib.Path(str(CLEANERS.module(name).__file__)).read_text("utf-8"),
      repr(config.opts.get(name)),
      getattr(step, "fingerprint", ""),
    )
    for name, step in steps.items()
  ]
  # What is a letter differs between Pythons.
  unicode = unicodedata.unidata_version
  text = json.dumps((FORMAT, unicode, fingerprint, parts))
  return hashlib.sha256(text.encode()).hexdigest()[:32]


def _decide(
  steps: Sequence[Any],
  tracked: Callable[[str], Iterator[Text]],
  unfinished: pathlib.Path,
  workers: work.Workers,
) -> Decisions:
  """Runs the passes, each over what the one before has left."""
  decisions = Decisions()
  for number, one in enumerate(passes(steps)):
    texts, folder = tracked(f"pass {number + 1}"), unfinished / str(number)
    if number == 0:
      decisions = _run(one, texts, folder, workers)
      continue
    left = [not reason for reason in decisions.reasons]
    found = _run(one, itertools.compress(texts, left), folder, workers)
    decisions.samples |= found.samples
    places = itertools.compress(itertools.count(), left)
    for reason, note, i in zip(
      found.reasons, found.notes, places, strict=False
    ):
      decisions.reasons[i] = reason
      decisions.notes[i] = note or decisions.notes[i]
  return decisions


def _run(
  one: Pass, texts: Iterator[Text], folder: pathlib.Path, workers: work.Workers
) -> Decisions:
  """One pass over what is left; its decisions are of that alone."""
  names: list[str] = []

  def batches() -> Iterator[list[str]]:
    for batch in batched(texts):
      names.extend(text.name for text in batch)
      yield [text.text for text in batch]

  decisions = Decisions()
  reasons = decisions.reasons
  signatures: list[bytes] = []  # of those that the filters keep
  for table in workers.run(one, batches(), folder):
    reasons += table["reason"].to_pylist()
    decisions.notes += table["note"].to_pylist()
    signatures += table["signature"].drop_null().to_pylist()
  copies: dict[int, int] = {}
  if one.dedup:
    kept = [i for i, reason in enumerate(reasons) if not reason]
    for i, first in enumerate(duplicates(one.dedup, signatures)):
      if first >= 0:
        reasons[kept[i]] = one.dedup.reason
        copies[kept[i]] = kept[first]
  excerpts = itertools.chain.from_iterable(
    table["excerpt"].to_pylist() for table in work.finished(folder)
  )
  for i, (reason, excerpt) in enumerate(zip(reasons, excerpts, strict=True)):
    of = names[copies[i]] if i in copies else ""
    decisions.sample(reason, names[i], excerpt, of)
  return decisions
