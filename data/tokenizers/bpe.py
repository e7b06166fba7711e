"""Byte-pair encoding (Sennrich et al. 2016, arXiv:1508.07909)."""

from .sentence_piece import Options, SentencePiece

__all__ = ["BPE", "Options"]


class BPE(SentencePiece):
  """Merges the most frequent pair, again and again."""

  algorithm = "bpe"
