"""Sparse upcycling (Komatsuzaki et al. 2022, arXiv:2212.05055).

Where `init_from` names a run of the same model with a dense feed-forward
network, each expert of a mixture begins as that network, and the router as it
always does. Where the weights of a token's experts add up to 1 and none of
them is shared, the mixture is at first the dense model.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..models.param import ParamSpec

DENSE, EXPERTS, ROUTER = "/ffn/", "/ffn/experts/", "/ffn/router/"


def upcycle(
  dense: Mapping[str, Any],
  fresh: Mapping[str, Any],
  specs: Mapping[str, ParamSpec],
) -> dict[str, Any]:
  """The parameters of a mixture by path; `dense` itself where nothing fits.

  Args:
    dense: of the run to start from.
    fresh: of this run, before any update: the router's are taken.
    specs: of this run.
  """
  found, used = dict(dense), set()
  for path, spec in specs.items():
    source = path.replace(EXPERTS, DENSE)
    if EXPERTS not in path or path in dense or source not in dense:
      continue
    axis = spec.axes.index("experts")
    copies = np.expand_dims(np.asarray(dense[source]), axis)
    found[path] = np.repeat(copies, spec.shape[axis], axis)
    used.add(source)
    layer = path.split(EXPERTS)[0]
    found |= {p: fresh[p] for p in fresh if p.startswith(layer + ROUTER)}
  return {path: a for path, a in found.items() if path not in used}
