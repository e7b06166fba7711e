"""Linear attention (Katharopoulos et al. 2020, arXiv:2006.16236).

The feature maps are those of Performer, Based and Hedgehog too; see
`feature_maps.py`.
"""

import dataclasses

import jax.numpy as jnp

from ...errors import UserError, nearest
from ...kernels.dispatch import dispatch
from .feature_maps import FEATURE_MAPS
from .recurrence import HeadOptions, HeadRecurrence, Leaf

# Under sums of features of 0 or more, which relu may leave at 0: then what is
# divided is 0 too, and its gradient.
_LEAST = 1e-10


@dataclasses.dataclass(frozen=True)
class Options(HeadOptions):
  feature_map: str = "elu"  # elu | relu | identity | taylor | random | hedgehog
  n_features: int = 0  # of feature_map=random; 0: as many as key_dim
  normalize: bool = True  # divide by the sum of phi(q) phi(k)

  def __post_init__(self):
    super().__post_init__()
    if self.feature_map not in FEATURE_MAPS:
      raise UserError(
        f"feature_map={self.feature_map!r} is not one of"
        f" {', '.join(FEATURE_MAPS)}{nearest(self.feature_map, FEATURE_MAPS)}"
      )
    if self.n_features < 0 or (
      self.n_features and self.feature_map != "random"
    ):
      raise UserError(
        f"n_features={self.n_features} is the number of features of"
        " feature_map=random; leave it 0 elsewhere"
      )
    if self.normalize and not FEATURE_MAPS[self.feature_map].positive:
      raise UserError(
        f"normalize=True divides by a sum that feature_map={self.feature_map}"
        " may make 0; set it to False"
      )


class LinearAttention(HeadRecurrence):
  """sum_s v_s phi(k_s) phi(q_t) / sum_s phi(k_s) phi(q_t)."""

  word = "linear_attention"
  option_type = Options

  @classmethod
  def leaves(cls, config):
    o, (K, V) = cls.options(config), cls.sizes(config)
    F = FEATURE_MAPS[o.feature_map].size(K, o.n_features)
    return {"state": Leaf((config.n_heads, F, V + o.normalize))}

  def mix(self, x_BTD, ctx, starts_BT, state):
    c, o = self.config, self.options(self.config)
    K, V = self.sizes(c)
    phi = FEATURE_MAPS[o.feature_map]

    def features(name):
      y_BTNK = self.by_head(x_BTD, name, K).astype(jnp.float32)
      return phi(c, o.n_features, name=f"{name}_features")(y_BTNK)

    v_BTNV = self.by_head(x_BTD, "v", V, to_branch=True).astype(jnp.float32)
    if o.normalize:  # one column more adds up the weights
      ones = jnp.ones_like(v_BTNV[..., :1])
      v_BTNV = jnp.concatenate([v_BTNV, ones], axis=-1)
    scan = dispatch("linear_scan", c.implementation)
    o_BTNV, after = scan(
      features("q"),
      features("k"),
      v_BTNV,
      jnp.zeros_like(v_BTNV[..., :1]),
      starts_BT,
      state["state"],
    )
    if o.normalize:
      o_BTNV = o_BTNV[..., :-1] / (o_BTNV[..., -1:] + _LEAST)
    return self.out(o_BTNV), {"state": after}
