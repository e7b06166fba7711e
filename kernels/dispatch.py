"""Which implementation of an op runs: the one place that decides it.

`auto` takes the fastest that the backend has. Any other word is taken
literally: it never falls back, and what does not exist is an error.
"""

import importlib
from collections.abc import Callable
from typing import Any

import jax

from ..errors import UserError, nearest

WORDS = ("auto", "reference", "xla", "pallas", "pallas_interpret")

# op -> implementation -> "file:function" in this folder
OPS: dict[str, dict[str, str]] = {
  "flash_attention": {
    "reference": "flash_attention.reference:attention",
    "xla": "flash_attention.xla:attention",
  },
  "cross_entropy": {
    "reference": "cross_entropy.reference:linear_cross_entropy",
    "xla": "cross_entropy.xla:linear_cross_entropy",
  },
  "grouped_matmul": {
    "reference": "grouped_matmul.reference:grouped_matmul",
    "xla": "grouped_matmul.xla:grouped_matmul",
  },
  "linear_scan": {
    "reference": "linear_scan.reference:linear_scan",
    "xla": "linear_scan.xla:linear_scan",
  },
  "delta_rule": {
    "reference": "delta_rule.reference:delta_rule",
    "xla": "delta_rule.xla:delta_rule",
  },
  "diagonal_scan": {
    "reference": "diagonal_scan.reference:diagonal_scan",
    "xla": "diagonal_scan.xla:diagonal_scan",
  },
  "selective_scan": {
    "reference": "selective_scan.reference:selective_scan",
    "xla": "selective_scan.xla:selective_scan",
  },
  "long_conv": {
    "reference": "long_conv.reference:long_conv",
    "xla": "long_conv.xla:long_conv",
  },
  "head_conv": {
    "reference": "long_conv.reference:head_conv",
    "xla": "long_conv.heads:head_conv",
  },
  "ttt": {
    "reference": "ttt.reference:ttt",
    "xla": "ttt.xla:ttt",
  },
}

# op -> backend -> what `auto` means there ("*": any other backend)
AUTO: dict[str, dict[str, str]] = {
  "flash_attention": {"*": "xla"},
  "cross_entropy": {"*": "xla"},
  "grouped_matmul": {"*": "xla"},
  "linear_scan": {"*": "xla"},
  "delta_rule": {"*": "xla"},
  "diagonal_scan": {"*": "xla"},
  "selective_scan": {"*": "xla"},
  "long_conv": {"*": "xla"},
  "head_conv": {"*": "xla"},
  "ttt": {"*": "xla"},
}


def check_word(key: str, word: str) -> None:
  """Raises UserError where `word` is no implementation's name."""
  if word not in WORDS:
    raise UserError(
      f"{key}={word!r} is not an implementation{nearest(word, WORDS)}"
    )


def dispatch(op: str, implementation: str = "auto") -> Callable[..., Any]:
  """Returns the function that computes `op`.

  Raises:
    NotImplementedError: the op has no such implementation.
  """
  if implementation == "auto":
    auto = AUTO[op]
    implementation = auto.get(jax.default_backend(), auto["*"])
  if implementation not in OPS[op]:
    raise NotImplementedError(
      f"model.implementation={implementation!r}: {op} has no such"
      f" implementation; it has {', '.join(OPS[op])}, and 'auto' chooses"
    )
  file, function = OPS[op][implementation].split(":")
  module = importlib.import_module(f"{__package__}.{file}")
  return getattr(module, function)
