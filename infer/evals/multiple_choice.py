"""Multiple choice by likelihood (Brown et al. 2020, arXiv:2005.14165).

A line of the file is

  {"question": "...", "choices": ["...", "..."], "answer": 0}

where `answer` counts from 0, or is a letter; `context` may stand for
`question`. The answer is the choice of the largest log-likelihood after the
question, as it is, per token, per character (lm-eval's acc_norm), per byte (its
acc_bytes), or less its log-likelihood without the question: the pointwise
mutual information (Holtzman et al. 2021, arXiv:2104.08315), lm-eval's
acc_mutual_info. `premise` in a line is what then stands for the question, "the
answer is:" for instance; without it BOS alone does, as in lm-eval.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from ...errors import UserError
from ..score import Scorer
from . import Eval, Line, Shown, share, text_of

# What a log-likelihood is compared by -> lm-eval's name of the accuracy.
RULES = {
  "sum": "acc",
  "tokens": "",
  "characters": "acc_norm",
  "bytes": "acc_bytes",
  "pmi": "acc_mutual_info",
}


@dataclasses.dataclass(frozen=True)
class Options:
  """How a question and a choice become one text.

  Attributes:
    delimiter: stands between the two, and is scored with the choice.
  """

  delimiter: str = " "


@dataclasses.dataclass(frozen=True)
class Question:
  """A line that was checked."""

  where: str
  context: str
  premise: str
  choices: tuple[str, ...]
  answer: int


class MultipleChoice(Eval):
  field: ClassVar[str] = "choices"

  def __init__(self, options: Options):
    self.options = options

  def __call__(self, scorer: Scorer, items: Sequence[Line]) -> dict[str, Any]:
    questions = [_question(line) for line in items]
    pairs = []
    for question in questions:
      for context in (question.context, question.premise):
        for choice in question.choices:
          pairs.append((context, f"{self.options.delimiter}{choice}"))
    scored = iter(scorer.texts(pairs))
    right = dict.fromkeys(RULES, 0)
    lines, n_cut = [], 0
    for question in questions:
      asked, alone = (
        [next(scored) for _ in question.choices] for _ in range(2)
      )
      n_cut += any(score.n_cut for score in asked)
      totals = np.array([score.total for score in asked])
      scores = {
        "sum": totals,
        "tokens": totals / [len(score.logprobs) for score in asked],
        "characters": totals / [len(choice) for choice in question.choices],
        "bytes": totals / [len(choice.encode()) for choice in question.choices],
        "pmi": totals - [score.total for score in alone],
      }
      # The first of equals, as in lm-eval.
      said = {rule: int(found.argmax()) for rule, found in scores.items()}
      for rule, choice in said.items():
        right[rule] += choice == question.answer
      lines.append(
        {
          "where": question.where,
          "answer": question.answer,
          "chosen": said,
          "loglikelihoods": totals.tolist(),
          "tokens": [len(score.logprobs) for score in asked],
        }
      )
    n = len(questions)
    return {
      "n": n,
      "chance": sum(1 / len(q.choices) for q in questions) / n,
      "accuracy": {rule: share(k, n) for rule, k in right.items()},
      "n_cut": n_cut,
      "lines": lines,
    }

  def show(self, found: Mapping[str, Any]) -> list[Shown]:
    rows = [
      (
        rule,
        f"{accuracy['value']:.3f}",
        f"{accuracy['low']:.3f} to {accuracy['high']:.3f}",
        RULES[rule],
      )
      for rule, accuracy in found["accuracy"].items()
    ]
    caption = f"chance is {found['chance']:.3f}"
    if found["n_cut"]:
      caption += (
        f"; {found['n_cut']} questions are longer than the model's context and"
        " lost their beginning"
      )
    columns = ("log-likelihood", "accuracy", "95 % interval", "as in lm-eval")
    title = f"multiple choice, {found['n']} questions"
    return [Shown(title, columns, rows, caption)]


def _question(line: Line) -> Question:
  """Checks a line."""
  where, fields = line
  both = [name for name in ("question", "context") if name in fields]
  if len(both) == 2:
    raise UserError(f"{where} has both question and context; keep one")
  context = text_of(line, both[0] if both else "question")
  if "choices" not in fields:
    raise UserError(
      f"{where} lacks the field 'choices'; its fields are {', '.join(fields)}"
    )
  choices = fields["choices"]
  texts = isinstance(choices, list) and all(isinstance(c, str) for c in choices)
  if not texts or len(choices) < 2:
    raise UserError(
      f"{where}: choices={choices!r} must be a list of two texts or more"
    )
  for i, choice in enumerate(choices):
    if not choice.strip():
      raise UserError(
        f"{where}: choice {i} is empty and so has no likelihood; write it, or"
        " drop it"
      )
  if "answer" not in fields:
    raise UserError(
      f"{where} lacks the field 'answer'; its fields are {', '.join(fields)}"
    )
  answer = given = fields["answer"]
  last = len(choices) - 1
  if isinstance(given, str) and len(given) == 1 and given.isascii():
    answer = ord(given.upper()) - ord("A")
  if isinstance(answer, bool) or not isinstance(answer, int):
    raise UserError(
      f"{where}: answer={given!r} must be a number from 0 to {last} or a"
      f" letter from A to {chr(ord('A') + last)}"
    )
  if not 0 <= answer <= last:
    raise UserError(
      f"{where}: answer={given!r} is out of range; with {last + 1} choices it"
      f" is from 0 to {last}, or from A to {chr(ord('A') + last)}"
    )
  premise = text_of(line, "premise", "")
  return Question(where, context, premise, tuple(choices), answer)
