"""Cross-attention (Vaswani et al. 2017, arXiv:1706.03762; section 3.2.3).

Queries come of the layer's input, keys and values of a source. In a decoder
alone the source is the stream as it came to the first layer of `model.pattern`:
after `model.first`, as in a decoder on a decoder (YOCO, Sun et al. 2024,
arXiv:2405.05254; there one set of keys and values is shared, here each layer
projects its own).
"""

from ..norms import NORMS
from .attention import Attention, Options


class CrossAttention(Attention):
  """softmax(q k^T / sqrt(H)) v with k and v of a norm of the source."""

  word = "cross_attention"
  option_type = Options
  of_source = True

  def project(self, x_BTD, ctx):
    source_BTD = x_BTD if ctx.source_BTD is None else ctx.source_BTD
    normed = NORMS[self.config.norm](self.config, name="source_norm")
    return self.projected(x_BTD, {"": normed(source_BTD)}, ctx)
