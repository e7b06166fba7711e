"""Characters as tokens (Al-Rfou et al. 2019, arXiv:1808.04444)."""

from collections.abc import Sequence

from .lookup import Lookup, Options

__all__ = ["Characters", "Options"]


class Characters(Lookup):
  """The most frequent code points; one that has no id is spelled in bytes."""

  @staticmethod
  def cut(text: str) -> Sequence[str]:
    return text
