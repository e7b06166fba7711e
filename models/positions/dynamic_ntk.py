"""Dynamic NTK scaling of RoPE (emozilla 2023; arXiv:2309.00071).

The base follows the length of the document so far, and is the trained one up to
`original_len`: there nothing changes, and training is refused beyond. In one
pass all tokens have the base of the whole document. In decoding cached keys
keep the base of the length at which they came, as in the first
implementations; `consistent_ntk` turns them anew.
"""

import dataclasses

import jax.numpy as jnp

from .ntk import grown_base
from .rope import RoPE, Scaled, wavelengths

Options = Scaled


class DynamicNTK(RoPE):
  """RoPE of the base theta * (f n / L - (f - 1))^(R / (R - 2)) at length n."""

  word = "dynamic_ntk"
  option_type = Options

  of_length = True

  @classmethod
  def stretched(cls, rope, trained, length):
    # The stretch is then the length's own share, s = n / L of the source.
    options = super().stretched(rope, trained, length)
    return dataclasses.replace(options, factor=1.0)

  def frequencies(self, R, lengths_BT):
    o = self.options
    if lengths_BT is None:
      return wavelengths(o.rope_theta, R)
    n_BT = lengths_BT.astype(jnp.float32)
    ratio_BT = jnp.maximum(n_BT / self.original_len, 1)
    stretch_BT = o.factor * ratio_BT - (o.factor - 1)
    return wavelengths(grown_base(o.rope_theta, stretch_BT, R), R)
