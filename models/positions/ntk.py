"""NTK-aware scaling of RoPE (bloc97 2023; Peng et al. 2023, arXiv:2309.00071).

The base grows so that the slowest pair is interpolated by `factor` and the
fastest not at all (section 3.1).
"""

from .rope import RoPE, Stretched, wavelengths

Options = Stretched


def grown_base(theta, factor, R):
  """theta * factor^(R / (R - 2)); a lone pair is not stretched at all."""
  return theta * factor ** (R / max(R - 2, 1))


class NTK(RoPE):
  """RoPE of the base theta * factor^(R / (R - 2))."""

  word = "ntk"
  option_type = Options

  def frequencies(self, R, lengths_BT):
    del lengths_BT
    o = self.options
    return wavelengths(grown_base(o.rope_theta, o.factor, R), R)
