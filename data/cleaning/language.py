"""Language tags by n-grams of bytes (Lui and Baldwin 2012, langid.py).

The model is that of py3langid. Its confidence is a share of the probability of
all languages at a temperature that grows with the text, so that short texts,
tables and short pieces of code get little; where it is under `min_confidence`
the tag is "und", undetermined. Code with comments in English is English, and
long text in no language is "zxx".
"""

import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import math
import re
from collections.abc import Sequence
from typing import Any

from ...errors import UserError, nearest
from . import Verdict
from .rules import check_least, check_shares

UNDETERMINED = "und"  # ISO 639-2
_PIECES = 4


@dataclasses.dataclass(frozen=True)
class Options:
  """Which languages to keep.

  keep: ISO 639 tags; "und" keeps what cannot be told.
  min_confidence: in [0, 1], under which a text is "und".
  max_chars: of a longer text only about so many are read, in pieces from
    its beginning to its end. 0: all.
  """

  keep: tuple[str, ...] = ("en", "zh")
  min_confidence: float = 0.5
  max_chars: int = 4000

  def __post_init__(self):
    check_shares("language", self, "min_confidence")
    check_least("language", self, 0, "max_chars")
    if not self.keep:
      raise UserError(
        "data.opts.language.keep is empty and would drop every text; name the"
        " languages to keep, such as ('en', 'zh')"
      )
    for tag in self.keep:
      if not re.fullmatch("[a-z]{2,3}", tag):
        raise UserError(
          f"data.opts.language.keep has {tag!r}, which is not a tag of ISO 639;"
          " write two or three small letters, such as 'en'"
        )


class Language:
  """Tags each text, and drops those in other languages; the note is the tag."""

  def __init__(self, options: Options):
    self._options = options
    self._identifier: Any = None
    if importlib.util.find_spec("py3langid") is None:
      raise UserError(
        "data.clean=language needs py3langid; pip install py3langid"
      )

  def __reduce__(self):
    # The model is read again, in less time than it takes to send it.
    return type(self), (self._options,)

  @property
  def fingerprint(self) -> str:
    """Of the package, which holds the model."""
    version = importlib.metadata.version("py3langid")
    return hashlib.sha256(f"py3langid {version}".encode()).hexdigest()

  def judge(self, texts: Sequence[str]) -> list[Verdict]:
    return [self._verdict(self.tag(text)) for text in texts]

  def tag(self, text: str) -> str:
    """Returns the text's language, or "und"."""
    tag, confidence = self._model().classify(self._sample(text))
    return tag if confidence >= self._options.min_confidence else UNDETERMINED

  def facts(self) -> dict[str, Any]:
    return {"languages": len(self._model().labels)}

  def _sample(self, text: str) -> str:
    size = math.ceil(self._options.max_chars / _PIECES)
    if not size or len(text) <= size * _PIECES:
      return text
    step = (len(text) - size) / (_PIECES - 1)
    starts = [round(step * i) for i in range(_PIECES)]
    return "\n".join(text[start : start + size] for start in starts)

  def _verdict(self, tag: str) -> Verdict:
    return Verdict("" if tag in self._options.keep else f"language: {tag}", tag)

  def _model(self) -> Any:
    """Returns the model, read at the first call.

    Raises:
      UserError: a language to keep is not one that it knows.
    """
    if self._identifier is None:
      from py3langid.langid import MODEL_FILE, LanguageIdentifier

      model = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
      known = [*model.labels, UNDETERMINED]
      for tag in self._options.keep:
        if tag not in known:
          raise UserError(
            f"data.opts.language.keep has {tag!r}, which is not one of the"
            f" {len(known)} languages that can be told{nearest(tag, known)}"
          )
      self._identifier = model
    return self._identifier
