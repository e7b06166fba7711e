"""The last weights (Robbins and Monro 1951)."""

from ...registry import NoOptions
from . import Average


def none(options: NoOptions) -> Average:
  del options
  return Average(
    init=lambda _: (),
    update=lambda *_: (),
    eval_params=lambda _, params: params,
  )
