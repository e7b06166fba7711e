"""Generation with exact match and F1 (Rajpurkar et al. 2016, arXiv:1606.05250).

A line of the file is {"prompt": "...", "answer": "..."}, or has a list of
right `answers`, of which the best counts. The model continues the prompt
greedily, up to a stop text. White space at the ends of an answer never counts.
"""

import collections
import dataclasses
import re
import string
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from ...errors import UserError, nearest
from ..sampling import generate
from ..score import Scorer
from ..settings import Sampling
from . import Eval, Line, Shown, share, text_of

_NORMALIZE = ("none", "squad")


@dataclasses.dataclass(frozen=True)
class Options:
  """What is generated, and when it is right.

  Attributes:
    max_tokens: generated for each prompt, at most.
    stop: texts that end an answer and are no part of it; a line's end, unless
      others are given.
    normalize: what an answer may differ in: none: in nothing; squad: in case,
      punctuation, articles and white space.
  """

  max_tokens: int = 32
  stop: tuple[str, ...] = ("\n",)
  normalize: Literal["none", "squad"] = "none"

  def __post_init__(self):
    if self.normalize not in _NORMALIZE:
      raise UserError(
        f"normalize={self.normalize!r} is not one of"
        f" {', '.join(_NORMALIZE)}{nearest(self.normalize, _NORMALIZE)}"
      )


class ExactMatch(Eval):
  field: ClassVar[str] = "prompt"

  def __init__(self, options: Options):
    self.options = options

  def __call__(self, scorer: Scorer, items: Sequence[Line]) -> dict[str, Any]:
    prompts = [text_of(line, "prompt") for line in items]
    golds = [_answers(line) for line in items]
    sampling = Sampling(
      temperature=0.0,
      max_tokens=self.options.max_tokens,
      stop=self.options.stop,
    )
    ids, cut = prompt_ids(scorer, prompts, sampling.max_tokens)
    completions = generate(
      scorer.config,
      scorer.params,
      scorer.tokenizer,
      ids,
      sampling,
      n_rows=scorer.n_rows,
    )
    normal = squad if self.options.normalize == "squad" else str.strip
    lines, n_right, f1s = [], 0, []
    for line, answers, completion in zip(
      items, golds, completions, strict=True
    ):
      said = normal(completion.text)
      right = said in map(normal, answers)
      n_right += right
      f1s.append(max(token_f1(said, normal(answer)) for answer in answers))
      lines.append(
        {
          "where": line.where,
          "said": completion.text,
          "finish": completion.finish,
          "right": right,
          "f1": f1s[-1],
        }
      )
    n = len(items)
    return {
      "n": n,
      "exact_match": share(n_right, n),
      "f1": sum(f1s) / n,
      "n_cut": sum(map(bool, cut)),
      "lines": lines,
    }

  def show(self, found: Mapping[str, Any]) -> list[Shown]:
    exact = found["exact_match"]
    interval = f"{exact['low']:.3f} to {exact['high']:.3f}"
    rows = [
      ("exact match", f"{exact['value']:.3f}", interval),
      ("token F1", f"{found['f1']:.3f}", ""),
    ]
    caption = ""
    if found["n_cut"]:
      caption = (
        f"{found['n_cut']} prompts are longer than the model's context leaves"
        " room for, and lost their beginning"
      )
    title = f"generation, {found['n']} prompts"
    return [Shown(title, ("", "value", "95 % interval"), rows, caption)]


def prompt_ids(
  scorer: Scorer, prompts: Sequence[str], max_tokens: int
) -> tuple[list[list[int]], list[int]]:
  """Ids of prompts, and how many each lost for the answer to have room.

  Raises:
    UserError: the answer alone would fill model.max_len.
  """
  room = scorer.config.max_len - max_tokens
  if room < 1:
    raise UserError(
      f"max_tokens={max_tokens} leaves no room for a prompt in"
      f" model.max_len={scorer.config.max_len}; lower it"
    )
  tokenizer = scorer.tokenizer
  ids = [[tokenizer.bos_id, *tokenizer.encode(text)] for text in prompts]
  return [i[-room:] for i in ids], [max(0, len(i) - room) for i in ids]


def squad(text: str) -> str:
  """SQuAD's normal form: lower case, no punctuation, no articles."""
  text = "".join(c for c in text.lower() if c not in string.punctuation)
  return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def token_f1(said: str, answer: str) -> float:
  """Harmonic mean of precision and recall over words.

  Two texts without a word are equal: 1, as in SQuAD 2.0.
  """
  ours, theirs = said.split(), answer.split()
  if not ours or not theirs:
    return float(ours == theirs)
  same = (collections.Counter(ours) & collections.Counter(theirs)).total()
  return 2 * same / (len(ours) + len(theirs))


def _answers(line: Line) -> list[str]:
  where, fields = line
  if "answer" in fields and "answers" in fields:
    raise UserError(f"{where} has both answer and answers; keep one")
  if "answers" not in fields:
    return [text_of(line, "answer")]
  answers = fields["answers"]
  texts = isinstance(answers, list) and all(isinstance(a, str) for a in answers)
  if not texts or not answers:
    raise UserError(
      f"{where}: answers={answers!r} must be a list of one text or more"
    )
  return answers
