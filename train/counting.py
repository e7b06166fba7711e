"""FLOPs of a traced program, place by place, and what its gradient keeps.

Nothing here knows a technique, or even a model: the program says what it
multiplies, and the scopes of Flax and `jax.named_scope` where.
"""

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from ..kernels.flops import needed


def count_flops(jaxpr: core.Jaxpr) -> int:
  """Multiplications and additions of every matmul, loops included."""
  return flops_by_path(jaxpr).total()


def flops_by_path(jaxpr: core.Jaxpr, path: str = "") -> Counter[str]:
  """The same, by the scopes in which a matmul stands.

  Args:
    path: scopes of the equation that the program belongs to.
  """
  found = Counter()
  for equation in jaxpr.eqns:
    # An inner program's scopes begin anew.
    here = f"{path}/{equation.source_info.name_stack}"
    word, params = equation.primitive.name, equation.params
    shapes = [_shape(v) for v in equation.invars]
    if word == "dot_general":
      (contracted, _), _ = params["dimension_numbers"]
      out = _shape(equation.outvars[0])
      terms = math.prod(shapes[0][i] for i in contracted)
      found[here] += 2 * math.prod(out) * terms
    elif word == "ragged_dot_general":
      x, w = shapes[:2]
      found[here] += 2 * math.prod(x) * w[-1]
    else:
      inner = [flops_by_path(program, here) for program in programs(params)]
      if word == "cond":
        inner = [max(inner, key=Counter.total)]  # the dearer branch
      once = sum(inner, Counter())
      before = after = once.total()
      if word == "scan":
        after *= params["length"]
      elif "jaxpr" in params and "name" in params:
        after = needed(params["name"], before, shapes)
      for place, n in once.items():
        found[place] += n * after // before
  return found


def _shape(variable: Any) -> tuple[int, ...]:
  return getattr(variable.aval, "shape", ())  # a token has none


def programs(params: dict[str, Any]) -> Iterator[core.Jaxpr]:
  """Those inside an equation."""
  for value in params.values():
    for item in value if isinstance(value, tuple | list) else (value,):
      if isinstance(item, core.ClosedJaxpr):
        yield item.jaxpr
      elif isinstance(item, core.Jaxpr):
        yield item


def saved_bytes(function, *args) -> int:
  """Bytes that the backward pass of `function` needs besides its inputs."""
  pullback = jax.make_jaxpr(lambda *a: jax.vjp(function, *a)[1])
  traced = pullback(*args).jaxpr
  given = {id(v) for v in traced.invars}
  kept = {
    id(v): v.aval
    for v in traced.outvars
    if isinstance(v, core.Var) and id(v) not in given
  }
  return sum(nbytes(aval) for aval in kept.values())


def nbytes(aval: Any) -> int:
  return math.prod(aval.shape) * jnp.dtype(aval.dtype).itemsize
