"""Which documents are kept: the cleaning steps, over the whole corpus."""

import hashlib
import itertools
import json
import pathlib
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from ..errors import UserError
from . import work
from .cache import cached, root
from .cleaning import CLEANERS, duplicates
from .config import DataConfig
from .passes import Decisions, Pass, passes
from .texts import Text, Track, batched, untracked

FORMAT = 2  # of what is in the cache; raise it when that changes

Steps = dict[str, Any]  # by name, in the order of the config
Facts = dict[str, dict[str, Any]]  # step -> what it says of itself


def clean(
  config: DataConfig,
  steps: Steps,
  texts: Callable[[], Iterator[Text]],
  listing: pa.Table,
  track: Track = untracked,
  workers: work.Workers = work.ALONE,
  beam: Any = None,
) -> Decisions:
  """Returns the decisions of the steps, from the cache if they are there.

  Args:
    texts: gives all documents, the same each time.
    listing: of those documents.
    workers: the result does not depend on them.
    beam: the `beam.Beam` that does the work instead; nor on this.
  """
  sizes = listing["size"].to_pylist()
  decisions = Decisions.before(sizes)
  if not steps:
    return decisions
  key = _key(config, steps, listing)

  def tracked(what: str) -> Iterator[Text]:
    return track(f"cleaning: {what}", texts(), sum(sizes))

  def build(folder: pathlib.Path) -> None:
    with work.unfinished(f"clean-{key}") as unfinished:
      if beam is None:
        for number, one in enumerate(passes(list(steps.values()))):
          of_pass = tracked(f"pass {number + 1}")
          _decide(one, of_pass, decisions, unfinished / str(number), workers)
      else:
        beam.decide(decisions, listing, unfinished)
    decisions.save(folder)

  return Decisions.load(cached(root() / "cleaned" / key, build))


def chosen(config: DataConfig) -> dict[str, Any]:
  """Returns each step's options by its name, in the order of the config.

  Raises:
    UserError: a step is named twice.
  """
  for name, n in Counter(config.clean).items():
    if n > 1:
      raise UserError(
        f"data.clean={config.clean} names {name!r} {n} times; name it once"
      )
  return {
    name: config.opts.get(name, CLEANERS.options(name)())
    for name in config.clean
  }


def make_steps(config: DataConfig) -> tuple[Steps, Facts]:
  """Returns the steps, ready to work, and what they say of themselves.

  Raises:
    UserError: a file that an option names is missing or wrong.
  """
  steps = {name: CLEANERS[name](o) for name, o in chosen(config).items()}
  return steps, {
    name: step.facts() for name, step in steps.items() if hasattr(step, "facts")
  }


def _key(config: DataConfig, steps: Steps, listing: pa.Table) -> str:
  parts = [
    (
      name,
      # A plugin's step may change from one day to the next.
      pathlib.Path(str(CLEANERS.module(name).__file__)).read_text("utf-8"),
      repr(options),
      getattr(steps[name], "fingerprint", ""),
    )
    for name, options in chosen(config).items()
  ]
  fingerprint = hashlib.sha256()
  for chunk in listing["sha256"].chunks:
    fingerprint.update(b"".join(chunk.to_pylist()))
  # What is a letter differs between Pythons.
  unicode = unicodedata.unidata_version
  text = json.dumps((FORMAT, unicode, fingerprint.hexdigest(), parts))
  return hashlib.sha256(text.encode()).hexdigest()[:32]


def _decide(
  one: Pass,
  texts: Iterator[Text],
  decisions: Decisions,
  folder: pathlib.Path,
  workers: work.Workers,
) -> None:
  """One pass over what those before it have left."""
  left = decisions.left()
  is_left = [not reason for reason in decisions.reasons]
  batches = batched(itertools.compress(texts, is_left))
  reasons, notes = [], []
  signatures: list[bytes] = []  # of those that the filters keep
  for table in workers.run(
    one, ([text.text for text in batch] for batch in batches), folder
  ):
    reasons += table["reason"].to_pylist()
    notes += table["note"].to_pylist()
    signatures += table["signature"].drop_null().to_pylist()
  copies: dict[int, int] = {}
  if one.dedup:
    kept = [i for i, reason in enumerate(reasons) if not reason]
    for i, first in enumerate(duplicates(one.dedup, signatures)):
      if first >= 0:
        reasons[kept[i]] = one.dedup.reason
        copies[kept[i]] = left[kept[first]]
  excerpts = itertools.chain.from_iterable(
    table["excerpt"].to_pylist() for table in work.finished(folder)
  )
  for i, (place, excerpt) in enumerate(zip(left, excerpts, strict=True)):
    decisions.reasons[place] = reasons[i]
    decisions.notes[place] = notes[i] or decisions.notes[place]
    decisions.sample(reasons[i], place, excerpt, copies.get(i))
