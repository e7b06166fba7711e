"""Mixers without feed-forward layers (Gu and Dao 2023, arXiv:2312.00752)."""

from . import FFN


class NoFFN(FFN):
  """x + mixer(norm(x)) is the whole layer, as Mamba's are."""

  present = False
  expert = False
