"""Position interpolation (Chen et al. 2023, arXiv:2306.15595)."""

from .rope import RoPE, Stretched

Options = Stretched


class Linear(RoPE):
  """RoPE with positions divided by `factor`: none lies beyond the trained."""

  word = "linear"
  option_type = Options

  def frequencies(self, R, lengths_BT):
    return super().frequencies(R, lengths_BT) / self.options.factor
