"""No position encoding, order from causality alone (Haviv et al. 2022, arXiv:2203.16634)."""

from . import Position


class NoPosition(Position):
  """All three hooks do nothing."""
