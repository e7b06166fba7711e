"""What a computation needs, where its matmuls do not say so.

`train/accounting.py` adds up the matmuls of a traced program. An oracle may
compute more than the algorithm needs, and a loop may not know beforehand how
often it runs; such a function is traced under a name that says what counts.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax

_SHARE, _ROWS = "share", "rows"


@functools.lru_cache(maxsize=1024)
def share(function: Callable[..., Any], part: int, whole: int) -> Any:
  """`function`, of whose FLOPs part / whole are needed."""
  if part >= whole:
    return function

  def run(*args):
    return function(*args)

  run.__name__ = f"{_SHARE}_{part}_{whole}"
  return jax.jit(run)


def each_row(function: Callable[..., Any], times: int) -> Any:
  """`function(x_MD, w_EDF, ...)`: `times` the product of each row and a w."""

  def run(*args):
    return function(*args)

  run.__name__ = f"{_ROWS}_{times}"
  return jax.jit(run)


def needed(name: str, inner: int, shapes: list[tuple[int, ...]]) -> int:
  """FLOPs of a traced function.

  Args:
    name: by which it was traced.
    inner: FLOPs of what is in it.
    shapes: of its arguments.
  """
  match name.split("_"):
    case [word, part, whole] if word == _SHARE:
      return inner * int(part) // int(whole)
    # Of what is known before, a gradient makes a call of the same name.
    case [word, times] if word == _ROWS and inner:
      M = next(shape[0] for shape in shapes if len(shape) == 2)
      _, D, F = next(shape for shape in shapes if len(shape) == 3)
      return 2 * int(times) * M * D * F
  return inner
