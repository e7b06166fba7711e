"""Which runs may stand in one table, and what the table must say of them."""

from collections.abc import Callable, Sequence

from ..errors import UserError, nearest
from .record import Run


def check_comparable(
  runs: Sequence[Run],
  *,
  metric: str,
  data_differs: bool,
  mixed: bool = False,
) -> tuple[str, ...]:
  """Notes for the report; refuses runs that can't be compared.

  Args:
    data_differs: whether the axes let arms have other data or another
      tokenizer; runs of one arm never may.
    mixed: compare all the same, and say so.

  Raises:
    UserError: no run has the metric; or names two runs and what they differ in.
  """
  done = [run for run in runs if run.status == "finished"]
  if done and not any(metric in run.final for run in done):
    known = {name for run in done for name in run.final}
    raise UserError(
      f"sweep(): metric={metric!r} is in no run{nearest(metric, known)}; the"
      " same command then goes on and repeats nothing"
    )
  notes = []
  ended = [run for run in runs if run.status != "failed"]
  rules: list[tuple[str, Callable[[Run], str], bool]] = [
    ("code", lambda run: run.code, False),
    ("data fingerprint", lambda run: run.data_fingerprint, data_differs),
    ("tokenizer", lambda run: run.tokenizer, data_differs),
  ]
  for what, value, by_arm in rules:
    first: dict[str, Run] = {}
    for run in ended:
      other = first.setdefault(run.arm if by_arm else "", run)
      if value(other) == value(run):
        continue
      said = (
        f"{other.workdir} and {run.workdir} differ in their {what}"
        f" ({_differing(value(other), value(run))})"
      )
      if not mixed:
        raise UserError(
          f"{said} and are not comparable; train them alike, or give --mixed"
          " to compare them all the same, which the table will say"
        )
      notes.append(f"Compared on demand: {said}.")
      break
  if data_differs and len({run.tokenizer for run in ended}) > 1:
    if not metric.endswith("bits_per_byte"):
      raise UserError(
        f"metric={metric!r} is per token, and the arms have different"
        " tokenizers; compare heldout/bits_per_byte"
      )
    notes.append("Arms have different tokenizers; bits per byte allow for it.")
  return tuple(notes)


def _differing(a: str, b: str) -> str:
  """Where two lists in a line differ."""
  short, long = sorted((a, b), key=len)
  if long.startswith(short):  # one went on with other code
    return long.removeprefix(short).lstrip(", ")
  pairs = list(zip(a.split(", "), b.split(", "), strict=False))
  found = [f"{x}, {y}" for x, y in pairs if x != y]
  return "; ".join(x if len(x) < 90 else x[:87] + "..." for x in found)
