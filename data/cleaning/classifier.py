"""Quality classifier on your own labels (Joulin et al. 2016, arXiv:1607.01759).

Logistic regression on the set of a text's words and n-grams, hashed to 2^bits
places, each text scaled to length 1. As in the appendix A of Brown et al. 2020
(arXiv:2005.14165) it is trained on text that is good and text that is not, and
every document gets the probability of being good. It is trained once; the
weights are in the cache under the hash of the labelled texts and the options.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from ...errors import UserError
from ..cache import cached, root
from ..sources.text import Options as TextOptions
from ..sources.text import Text
from . import Verdict
from .rules import check_least, check_shares
from .words import ngrams, words

FORMAT = 1  # of what is in the cache, and of the features; raise it with them
_FOLDS = 5
_FILE = "model.npz"
_KEY = "data.opts.classifier"

Probabilities: TypeAlias = Float64[np.ndarray, " N"]  # of being good


@dataclasses.dataclass(frozen=True)
class Options:
  """The labelled texts, the model and whom it drops.

  good, bad: files, folders and globs with texts of each kind: plain text, JSONL
    or Parquet, as the source `text` reads them.
  documents: what one text is in plain text: file | line | paragraph.
  column: the JSONL field or Parquet column that holds the text.
  threshold: in [0, 1]; a text whose probability of being good is less is
    dropped.
  pareto: a text under the threshold is kept after all if a draw from the Pareto
    distribution with this index, made from its hash, is more than the
    probability of being bad. 0: no draw. threshold=1 and pareto=9 are the rule
    of Brown et al. 2020.
  ngrams: most words of a feature; one character of a script without spaces is a
    word.
  bits: of the table of weights, 4 * 2^bits bytes.
  c: weight of the labels against that of the L2 penalty.
  """

  good: tuple[str, ...] = ()
  bad: tuple[str, ...] = ()
  documents: str = "paragraph"
  column: str = "text"
  threshold: float = 0.5
  pareto: float = 0.0
  ngrams: int = 2
  bits: int = 20
  c: float = 10.0

  def __post_init__(self):
    check_shares("classifier", self, "threshold")
    check_least("classifier", self, 0, "pareto")
    check_least("classifier", self, 1, "ngrams bits")
    if self.bits > 28:
      raise UserError(
        f"data.opts.classifier.bits={self.bits} is a table of"
        f" {4 << self.bits:,} bytes; set it to 28 or less"
      )
    if not self.c > 0:
      raise UserError(f"data.opts.classifier.c={self.c} must be positive")
    with _renamed("good"):
      TextOptions(self.good, self.documents, self.column)


class Classifier:
  """Drops what is more like the bad texts than like the good ones.

  Pickled after `facts` it takes the weights along, and needs no files.
  """

  def __init__(self, options: Options):
    for key in ("good", "bad"):
      if not getattr(options, key):
        raise UserError(
          f"data.opts.classifier.{key} is empty; name files with {key} texts"
          " there, and with the opposite in the other of good and bad"
        )
    self._options = options
    self._model: _Model | None = None

  @functools.cached_property
  def fingerprint(self) -> str:
    """Of the labelled texts in their order."""
    return _hash(self._labelled())

  def judge(self, texts: Sequence[str]) -> list[Verdict]:
    return [
      Verdict("" if self._is_kept(text) else "classifier: low quality")
      for text in texts
    ]

  def probability(self, text: str) -> float:
    """Returns the probability that the text is good."""
    model = self._trained()
    score = _score(model.weights, self._features(text)) + model.bias
    return float(_sigmoid(score))

  def facts(self) -> dict[str, Any]:
    """Returns how it does on labelled texts that it was not trained on.

    Each fifth of the texts is judged by a model of the others. The accuracy is
    at a probability of 1/2; the shares kept and dropped are at the options'.
    """
    good, bad = self._trained().heldout
    right = np.count_nonzero(good >= 0.5) + np.count_nonzero(bad < 0.5)
    return {
      "good_texts": len(good),
      "bad_texts": len(bad),
      "heldout_accuracy": float(right / (len(good) + len(bad))),
      "heldout_good_kept": float(self._chances(good).mean()),
      "heldout_bad_dropped": float(1 - self._chances(bad).mean()),
    }

  def _is_kept(self, text: str) -> bool:
    utf8 = text.encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(utf8, digest_size=8).digest()
    draw = int.from_bytes(digest, "little") / 2**64
    return bool(draw < self._chances(np.array([self.probability(text)]))[0])

  def _chances(self, probability: Probabilities) -> Probabilities:
    """Returns the chance to be kept, for probabilities of being good.

    A draw from the Pareto distribution (of numpy: it begins at 0) is more than
    x with chance (1 + x)^-pareto.
    """
    o = self._options
    under = (2 - probability) ** -o.pareto if o.pareto else 0.0
    return np.where(probability >= o.threshold, 1.0, under)

  def _features(self, text: str) -> Int64[np.ndarray, " F"]:
    """Returns the places of the text's different n-grams, in rising order."""
    hashes = words(text).hashes
    found = [ngrams(hashes, n + 1) for n in range(self._options.ngrams)]
    shift = np.uint64(64 - self._options.bits)
    return np.unique(np.concatenate(found) >> shift).astype(np.int64)

  def _labelled(self) -> tuple[list[str], list[str]]:
    """Returns the good texts and the bad ones: different ones with words."""
    return self._read("good"), self._read("bad")

  def _read(self, key: str) -> list[str]:
    o = self._options
    with _renamed(key):
      source = Text(TextOptions(getattr(o, key), o.documents, o.column))
      texts = dict.fromkeys(text for _, text in source.documents())
    texts = [text for text in texts if len(words(text).starts)]
    if len(texts) < _FOLDS:
      raise UserError(
        f"{_KEY}.{key} holds {len(texts)} different texts with words,"
        f" and at least {_FOLDS} are needed; add some, or set"
        f" {_KEY}.documents to a smaller unit than {o.documents!r}"
      )
    return texts

  def _trained(self) -> "_Model":
    if self._model is None:
      o = self._options
      key = json.dumps((FORMAT, self.fingerprint, o.ngrams, o.bits, o.c))
      name = hashlib.sha256(key.encode()).hexdigest()[:32]
      folder = cached(root() / "classifiers" / name, self._train)
      with np.load(folder / _FILE) as file:
        self._model = _Model(
          file["weights"], float(file["bias"]), (file["good"], file["bad"])
        )
    return self._model

  def _train(self, folder: pathlib.Path) -> None:
    """Writes the model of all labelled texts, and what others say of each."""
    good, bad = self._labelled()
    if _hash((good, bad)) != self.fingerprint:
      raise UserError(
        f"the files of {_KEY}.good and bad changed while they were read; run"
        " again when nothing writes to them"
      )
    features = [self._features(text) for text in (*good, *bad)]
    is_good = np.arange(len(features)) < len(good)
    # Every fifth of each class: files are often sorted by their subject.
    fold = np.concatenate((np.arange(len(good)), np.arange(len(bad)))) % _FOLDS
    size, c = 1 << self._options.bits, self._options.c
    heldout = np.empty(len(features))
    for k in range(_FOLDS):
      rest = [f for f, at in zip(features, fold, strict=True) if at != k]
      weights, bias = _fit(rest, is_good[fold != k], size, c)
      for i in np.flatnonzero(fold == k):
        heldout[i] = _sigmoid(_score(weights, features[i]) + bias)
    weights, bias = _fit(features, is_good, size, c)
    np.savez(
      folder / _FILE,
      weights=weights,
      bias=bias,
      good=heldout[is_good],
      bad=heldout[~is_good],
    )


@contextlib.contextmanager
def _renamed(key: str) -> Iterator[None]:
  """Has the errors of the source `text` name the options of this step."""
  try:
    yield
  except UserError as error:
    message = str(error).replace("data.opts.text.paths", f"{_KEY}.{key}")
    raise UserError(message.replace("data.opts.text", _KEY)) from None


def _hash(labelled: tuple[list[str], list[str]]) -> str:
  return hashlib.sha256(json.dumps(labelled).encode()).hexdigest()


class _Model(NamedTuple):
  """What was trained.

  heldout: of the good texts and of the bad ones, each by a model of the others.
  """

  weights: Float32[np.ndarray, " places"]
  bias: float
  heldout: tuple[Probabilities, Probabilities]


def _score(
  weights: Float32[np.ndarray, " places"], features: Int64[np.ndarray, " F"]
) -> float:
  """Returns the product with the features' vector, all equal, of length 1."""
  total = weights[features].sum(dtype=np.float64)
  return float(total / np.sqrt(max(1, len(features))))


def _sigmoid(score: float) -> float:
  return float(0.5 * (1 + np.tanh(0.5 * score)))  # does not overflow


def _fit(
  features: Sequence[Int64[np.ndarray, " _"]],
  is_good: Bool[np.ndarray, " N"],
  size: int,
  c: float,
) -> tuple[Float32[np.ndarray, " places"], float]:
  """Returns weights and bias; both classes weigh the same, whatever is more."""
  try:
    from scipy.sparse import csr_array
    from sklearn.linear_model import LogisticRegression
  except ImportError:
    raise UserError(
      "training data.clean=classifier needs scikit-learn; pip install"
      " scikit-learn"
    ) from None
  counts = np.array([len(row) for row in features])
  values = np.repeat(1 / np.sqrt(np.maximum(counts, 1)), counts)
  # Only places that are used: the table is mostly empty.
  used, columns = np.unique(np.concatenate(features), return_inverse=True)
  rows = np.concatenate(([0], np.cumsum(counts)))
  matrix = csr_array((values, columns, rows), shape=(len(features), len(used)))
  model = LogisticRegression(C=c, class_weight="balanced", max_iter=1000)
  model.fit(matrix, is_good)
  weights = np.zeros(size, np.float32)
  weights[used] = np.ravel(model.coef_)
  return weights, float(np.ravel(model.intercept_)[0])
