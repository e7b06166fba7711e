"""What a compiler does not split: each device computes on its own part."""

from collections.abc import Callable, Sequence
from typing import Any

import jax

from .rules import Axes, _layout


def apart(
  function: Callable[..., Any], ins: Sequence[Axes], out: Axes
) -> Callable[..., Any]:
  """`function` of each device's part of the arguments, without a word between.

  For what acts on each row, channel or head alone, and XLA would gather whole
  on every device, as it does before a Fourier transform.

  Args:
    ins: logical axes of each argument; None where a device needs all of one.
    out: those of the result.
  """
  layout = _layout.get()
  if layout is None or layout.mesh.size == 1:
    return function
  return jax.shard_map(
    function,
    mesh=layout.mesh,
    in_specs=tuple(layout.activation(axes).spec for axes in ins),
    out_specs=layout.activation(out).spec,
    # What varies between devices is not followed through gradients of one's
    # own; sums over devices are as safe without.
    check_vma=False,
  )
