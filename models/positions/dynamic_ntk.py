"""Dynamic NTK scaling of RoPE (emozilla 2023; arXiv:2309.00071).

The base follows the length so far, and is the trained one up to
`original_len`: there nothing changes. Keys in a cache keep the base of the
length at which they came, as in the first implementations, so that decoding
beyond `original_len` differs from one pass over the whole text;
`consistent_ntk` mends that.
"""

import jax.numpy as jnp

from .ntk import grown_base
from .rope import RoPE, Scaled, wavelengths

Options = Scaled


class DynamicNTK(RoPE):
  """RoPE of the base theta * (f n / L - (f - 1))^(R / (R - 2)) at length n."""

  word = "dynamic_ntk"
  option_type = Options

  def frequencies(self, R, length_B):
    o = self.options
    if length_B is None:
      return wavelengths(o.rope_theta, R)[None]
    ratio_B = jnp.maximum(length_B.astype(jnp.float32) / self.original_len, 1)
    stretch_B = o.factor * ratio_B - (o.factor - 1)
    return wavelengths(grown_base(o.rope_theta, stretch_B, R), R)
