"""Induction heads (Olsson et al. 2022, arXiv:2209.11895).

    a c d b a c d b a c ...        form="repeat"
    c d = b a d ... c a =          form="trigger"

"repeat": a block of symbols, none of them twice, and then the block again and
again; every symbol is asked from its second time on. The block has half of the
row at most, or as many symbols as there are, and any length from half of that,
so that no fixed distance gives the answer.
"trigger" is that of H3 (Fu et al. 2022, arXiv:2212.14052): random symbols, and
the one after the sign is asked at the end, where the sign stands again.
"""

import dataclasses

import numpy as np

from ...errors import UserError, nearest
from . import Row, Task, TaskOptions, at_least, need, next_symbol_row

FORMS = ("repeat", "trigger")
TRIGGER, FIRST = 1, 2


@dataclasses.dataclass(frozen=True)
class Options(TaskOptions):
  """Options of induction_heads: symbols, besides the sign, and the form."""

  symbols: int = 64
  form: str = "repeat"

  def __post_init__(self):
    super().__post_init__()
    at_least(self, symbols=2)
    if self.form not in FORMS:
      raise UserError(
        f"form={self.form!r} is not one of {', '.join(FORMS)}"
        f"{nearest(self.form, FORMS)}"
      )


class InductionHeads(Task):
  options: Options

  def __init__(self, options: Options, seq_len: int):
    super().__init__(options, seq_len)
    need(seq_len, 4, "a symbol, what follows it, and both again")
    self.vocab_size = FIRST + options.symbols
    self._most = min(seq_len // 2, options.symbols)
    self._least = max(2, self._most // 2)

  def draw(self, rng: np.random.Generator) -> Row:
    n, T = self.options.symbols, self.seq_len
    if self.options.form == "repeat":
      size = int(rng.integers(self._least, self._most + 1))
      block = FIRST + rng.permutation(n)[:size]
      # The first of the block is asked for too, from its second time on.
      asked = np.arange(T + 1) > size
      return next_symbol_row(np.resize(block, T + 1), asked, T)
    symbols = FIRST + rng.integers(n, size=T + 1)
    place = int(rng.integers(T - 2))
    symbols[[place, T - 1]] = TRIGGER
    symbols[T] = symbols[place + 1]
    return next_symbol_row(symbols, np.arange(T + 1) == T, T)
