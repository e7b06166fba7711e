"""MATMULS: in which numbers `Projection` multiplies by its weights.

An entry is a function `(config, spec, x, kernel) -> y` with y in the compute
dtype; `spec` is an einsum in which each letter stands in two of the three
terms. It is pure: what it needs to know of its operands it finds in them.
A new one is one file here and one line below.
"""

from ...registry import Registry

MATMULS = Registry(
  "matmul",
  "model.matmul",
  __name__,
  {
    "default": "default:matmul",
    "fp8": "fp8:matmul",
  },
)
