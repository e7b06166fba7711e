"""Learned absolute positions (Gehring et al. 2017, arXiv:1705.03122)."""

import flax.linen as nn

from ..param import declare, normal
from . import Position, check_row


class Learned(Position):
  """A vector for each of `model.max_len` positions, added to the embedding.

  Raises:
    UserError: a row is longer than the table.
  """

  word = "learned"
  relative = False

  @nn.compact
  def embed(self, x_BTD, positions_BT):
    c = self.config
    check_row(self.word, c, positions_BT.shape[1])
    shape = (c.max_len, c.d_model)
    init = normal(c.init_scale / c.d_model**0.5)  # as large as an embedding
    axes, roles = ("positions", "embed"), ("in", "out")
    table_PD = declare(self, "table", init, shape, axes, c.param_dtype, roles)
    return x_BTD + table_PD[positions_BT].astype(x_BTD.dtype)
