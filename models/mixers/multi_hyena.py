"""Multi-head Hyena: a filter a head (Massaroli et al. 2023, arXiv:2310.18780).

    y_t = (sum over s <= t of h_{t-s} k_s v_s^T)^T q_t

of projections that have passed short convolutions (section 4). A token's K V
sums cost K V log^2 T, which is much: where a row's halves have fewer than some
100 K V / (K + V + 16) tokens, `kernels/long_conv/heads.py` takes q_t k_s of all
pairs instead, as attention does.

Decoding keeps keys and values, and takes q_t k_s of all slots; see
`long_filter.py`. The paper's other part, states of fixed size distilled from
filters, is not here.
"""

import dataclasses

from ...kernels.dispatch import dispatch
from ...parallel.rules import apart
from . import long_filter
from .long_filter import LongConvolution, LongFilter
from .recurrence import HeadOptions


@dataclasses.dataclass(frozen=True)
class Options(long_filter.Options, HeadOptions):
  """In the paper both sizes are d_model / n_heads, as model.head_dim is."""

  def __post_init__(self):
    long_filter.Options.__post_init__(self)
    HeadOptions.__post_init__(self)


class MultiHyena(LongConvolution):
  """Heads of queries, keys and values."""

  word = "multi_hyena"
  option_type = Options

  @classmethod
  def streams(cls, config):
    o, N = cls.options(config), config.n_heads
    K, V = (size or config.head_dim for size in (o.key_dim, o.value_dim))
    return {"q": (N, K), "k": (N, K), "v": (N, V)}

  @classmethod
  def slot(cls, config):
    shapes = cls.streams(config)
    return {name: shapes[name] for name in "kv"}

  def mix(self, found, hear, slots):
    c, N = self.config, self.config.n_heads
    filters = LongFilter(c, self.options(c), (N,), ("heads",), name="filter")
    heard, kept = hear({name: found[name] for name in "kv"})
    rows = ("batch", None, "heads", None)
    convolve = apart(
      dispatch("head_conv", c.implementation),
      (rows, rows, rows, (None, "heads"), ("batch", None), ()),
      rows,
    )
    y_BTNV = convolve(
      found["q"],
      heard.arrays["k"],
      heard.arrays["v"],
      filters(slots),
      heard.starts_BS,
      heard.offset,
    )
    return y_BTNV, kept
