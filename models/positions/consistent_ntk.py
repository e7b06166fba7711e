"""Dynamic NTK whose cached keys agree with the current base (Zhang 2023).

As `dynamic_ntk`, but keys are cached as projected and turned when they are
read: a query and its keys have one base, that of the length so far, and the
next token's logits are those of one pass over the text.
https://zhuanlan.zhihu.com/p/641274061 gives the reason.
"""

from .dynamic_ntk import DynamicNTK, Options

__all__ = ["ConsistentNTK", "Options"]


class ConsistentNTK(DynamicNTK):
  """Dynamic NTK on keys that are turned when they are read."""

  word = "consistent_ntk"
  option_type = Options
  raw_keys = True
