"""Unigram language-model tokenizer (Kudo 2018, arXiv:1804.10959)."""

from .sentence_piece import Options, SentencePiece

__all__ = ["Options", "Unigram"]


class Unigram(SentencePiece):
  """The likeliest cut under a model of independent pieces, pruned by EM."""

  algorithm = "unigram"
