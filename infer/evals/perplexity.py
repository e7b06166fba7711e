"""Perplexity (Jelinek et al. 1977, doi:10.1121/1.2016299).

By source: nats per token, perplexity and bits per byte. By position: the loss
of the tokens at a place in their row's piece of a document, 0 being what BOS
predicts or, where training cuts a document, its first token. By context: the
loss of the same tokens, the last of each window, as a function of how many of
those right before them the model is given after BOS.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import UserError
from ..score import Ids, Scorer
from . import Eval, Shown, Source

# Windows without which a length of context is not measured.
_FEWEST = 4


@dataclasses.dataclass(frozen=True)
class Options:
  """How the loss against context length is measured.

  Attributes:
    tail: tokens at the end of a window that are scored.
    windows: windows of each source, at most.
  """

  tail: int = 16
  windows: int = 64

  def __post_init__(self):
    for name in ("tail", "windows"):
      if getattr(self, name) < 1:
        raise UserError(f"{name}={getattr(self, name)} must be at least 1")


class Perplexity(Eval):
  def __init__(self, options: Options):
    self.options = options

  def __call__(self, scorer: Scorer, items: Sequence[Source]) -> dict[str, Any]:
    sums, by_position = {}, []
    for source in items:
      if source.name in sums:
        raise UserError(f"{source.name!r} comes twice; name each text once")
      nats_T, tokens_T = _by_position(scorer, source)
      if not tokens_T.sum():
        raise UserError(f"{source.name} holds no text; name one that does")
      by_position.append((nats_T, tokens_T))
      sums[source.name] = (nats_T.sum(), tokens_T.sum(), source.n_bytes())
    together = [sum(column) for column in zip(*sums.values(), strict=True)]
    nats_T, tokens_T = (sum(a) for a in zip(*by_position, strict=True))
    return {
      "sources": {name: _numbers(*of_one) for name, of_one in sums.items()},
      "all": _numbers(*together),
      "by_position": list(_buckets(nats_T, tokens_T)),
      "by_context": self._by_context(scorer, items),
    }

  def _by_context(
    self, scorer: Scorer, items: Sequence[Source]
  ) -> dict[str, Any]:
    """The loss of the same tokens with more and more context."""
    tail, bos = self.options.tail, scorer.tokenizer.bos_id
    longest = scorer.config.max_len - tail
    ladder = _ladder(longest)
    windows: list[Ids] = []
    # As long as the model allows, and there are documents.
    while ladder:
      size = ladder[-1] + tail
      windows = [
        window
        for source in items
        for window in itertools.islice(
          _windows(source.documents(), size), self.options.windows
        )
      ]
      if len(windows) >= min(_FEWEST, self.options.windows):
        break
      ladder.pop()
    curve = []
    for n in ladder:
      scored = scorer.ids(
        [([bos, *w[-tail - n : -tail]], w[-tail:]) for w in windows]
      )
      losses = np.array([-score.total / tail for score in scored])
      error = None  # one window does not tell how far windows differ
      if len(losses) > 1:
        error = float(losses.std(ddof=1) / math.sqrt(len(losses)))
      curve.append({"context": n, "loss": float(losses.mean()), "error": error})
    return {
      "tail": tail,
      "windows": len(windows),
      "longest": longest,
      "curve": curve,
    }

  def show(self, found: Mapping[str, Any]) -> list[Shown]:
    sources = dict(found["sources"])
    if len(sources) > 1:
      sources["all"] = found["all"]
    tables = [
      Shown(
        "perplexity",
        ("source", "nats/token", "perplexity", "bits/byte", "tokens", "bytes"),
        [
          (
            name,
            f"{x['loss']:.4f}",
            f"{x['perplexity']:.4g}",
            f"{x['bits_per_byte']:.4f}",
            f"{x['tokens']:,}",
            f"{x['bytes']:,}",
          )
          for name, x in sources.items()
        ],
      ),
      Shown(
        "loss by position in the row",
        ("position", "nats/token", "tokens"),
        [
          (_range(x), f"{x['loss']:.4f}", f"{x['tokens']:,}")
          for x in found["by_position"]
        ],
      ),
    ]
    context = found["by_context"]
    if not context["curve"]:
      return tables
    caption = (
      f"of the same {context['tail']} tokens of each of"
      f" {context['windows']} windows"
    )
    if context["curve"][-1]["context"] < context["longest"]:
      caption += (
        f"; too few documents are long enough for {context['longest']} tokens"
        " of context"
      )
    shown = [
      (
        str(x["context"]),
        f"{x['loss']:.4f}",
        "none, of one window" if x["error"] is None else f"{x['error']:.4f}",
      )
      for x in context["curve"]
    ]
    tables.append(
      Shown(
        "loss by length of the context",
        ("context", "nats/token", "standard error"),
        shown,
        caption,
      )
    )
    return tables


def plot(found: Mapping[str, Any], title: str, file: Any) -> None:
  """Draws the loss by position and by length of the context, as a PNG."""
  from matplotlib.figure import Figure

  figure = Figure(figsize=(9, 3.4))
  left, right = figure.subplots(1, 2, sharey=True)
  places = found["by_position"]
  # The middle of a bucket on the logarithm's scale, from 1 as 0 has none.
  xs = [math.sqrt((x["first"] + 1) * (x["last"] + 1)) for x in places]
  left.plot(xs, [x["loss"] for x in places], "o-", color="C0", markersize=4)
  left.set_xscale("log", base=2)
  left.set(xlabel="position in the row, from 1", ylabel="nats per token")
  curve = found["by_context"]["curve"]
  right.errorbar(
    [x["context"] for x in curve],
    [x["loss"] for x in curve],
    [math.nan if x["error"] is None else x["error"] for x in curve],
    fmt="o-",
    color="C1",
    markersize=4,
    capsize=2,
  )
  right.set_xscale("symlog", base=2, linthresh=16)
  right.set(xlabel="tokens of context")
  for axes in (left, right):
    axes.spines[["top", "right"]].set_visible(False)
  figure.suptitle(title, fontsize=10)
  figure.tight_layout()
  figure.savefig(file, dpi=150)


def _by_position(scorer: Scorer, source: Source) -> tuple[Any, Any]:
  """Nats and tokens at each position."""
  nats_T, tokens_T = np.zeros(0), np.zeros(0, np.int64)
  for row, score in scorer.rows(source.rows):
    if not len(nats_T):
      nats_T = np.zeros(len(row.tokens))
      tokens_T = np.zeros(len(row.tokens), np.int64)
    real_T = row.segment_ids > 0
    places = row.positions[real_T]
    np.add.at(nats_T, places, -score.logprobs[real_T].astype(np.float64))
    np.add.at(tokens_T, places, 1)
  return nats_T, tokens_T


def _numbers(nats: Any, tokens: Any, n_bytes: int) -> dict[str, Any]:
  loss = float(nats) / int(tokens)
  return {
    "loss": loss,
    # Not math.exp: what is too large is inf.
    "perplexity": float(np.exp(loss)),
    "bits_per_byte": float(nats) / math.log(2) / n_bytes,
    "tokens": int(tokens),
    "bytes": n_bytes,
  }


def _buckets(nats_T: Any, tokens_T: Any) -> Iterator[dict[str, Any]]:
  """Positions 0, 1, 2 to 3, 4 to 7, and so on; empty ones are left out."""
  first, last = 0, 0
  while first < len(nats_T):
    place = slice(first, last + 1)
    tokens = int(tokens_T[place].sum())
    if tokens:
      yield {
        "first": first,
        "last": min(last, len(nats_T) - 1),
        "loss": float(nats_T[place].sum()) / tokens,
        "tokens": tokens,
      }
    first, last = last + 1, 2 * last + 1 if last else 1


def _range(bucket: Mapping[str, Any]) -> str:
  first, last = bucket["first"], bucket["last"]
  return str(first) if first == last else f"{first} to {last}"


def _ladder(longest: int) -> list[int]:
  """0, 16, 64, 256, ... and the longest; none where there is no room."""
  if longest < 0:
    return []
  steps = itertools.takewhile(lambda n: n < longest, _fours())
  return [*steps, longest]


def _fours() -> Iterator[int]:
  yield 0
  yield from (4**i for i in itertools.count(2))


def _windows(documents: Iterable[Ids], size: int) -> Iterator[Ids]:
  """Runs of `size` tokens that do not overlap."""
  for ids in documents:
    for start in range(0, len(ids) - size + 1, size):
      yield ids[start : start + size]
