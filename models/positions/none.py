"""No position encoding (Haviv et al. 2022, arXiv:2203.16634)."""

from . import Position


class NoPosition(Position):
  """All three hooks do nothing: order comes from causality alone."""
