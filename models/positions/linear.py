"""Position interpolation (Chen et al. 2023, arXiv:2306.15595)."""

from .rope import RoPE, Scaled

Options = Scaled


class Linear(RoPE):
  """RoPE with positions divided by `factor`: none lies beyond the trained."""

  word = "linear"
  option_type = Options

  def frequencies(self, R, length_B):
    return super().frequencies(R, length_B) / self.options.factor
