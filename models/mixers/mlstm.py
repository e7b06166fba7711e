"""mLSTM, xLSTM's matrix memory (Beck et al. 2024, arXiv:2405.04517).

As in the 7B model (arXiv:2503.13427): gates of the input alone, held within
`gate_cap`, half as many numbers in queries and keys as in values.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from ...errors import UserError
from ...kernels.dispatch import dispatch
from ..linear import Projection
from ..param import declare
from .recurrence import HeadNorm, HeadOptions, HeadRecurrence, Leaf
from .stabilizer import largest


@dataclasses.dataclass(frozen=True)
class Options(HeadOptions):
  key_dim: int = 0  # K of each head; 0: half of model.head_dim
  value_dim: int = 0  # V of each head; 0: model.head_dim
  gate_cap: float = 15.0  # gates' logits are c tanh(logit / c)

  def __post_init__(self):
    super().__post_init__()
    if self.gate_cap <= 0:
      raise UserError(f"gate_cap={self.gate_cap} must be positive")


@functools.cache
def _filled(value: float):
  def init(key, shape, dtype):
    del key
    return jnp.full(shape, value, dtype)

  return init


def _rising(key, shape, dtype):
  del key
  return jnp.linspace(3.0, 6.0, shape[0]).astype(dtype)


class MLSTM(HeadRecurrence):
  """C = f C + i k v^T, n = f n + i k, h = C^T q / max(|n q|, 1).

  i is an exponential: all of it is held divided by exp(m), where m is the
  largest logarithm of a weight so far.
  """

  word = "mlstm"
  option_type = Options

  @classmethod
  def sizes(cls, config):
    o, H = cls.options(config), config.head_dim
    return o.key_dim or max(1, H // 2), o.value_dim or H

  @classmethod
  def leaves(cls, config):
    (K, V), N = cls.sizes(config), config.n_heads
    return {"state": Leaf((N, K, V + 1)), "largest": Leaf((N,))}

  def mix(self, x_BTD, ctx, starts_BT, state):
    c, o = self.config, self.options(self.config)
    (K, V), N, cap = self.sizes(c), c.n_heads, o.gate_cap
    q_BTNK, k_BTNK = (self.by_head(x_BTD, name, K) for name in "qk")
    v_BTNV = self.by_head(x_BTD, "v", V, to_branch=True).astype(jnp.float32)

    def gate(name, bias):
      into = (c, "BTD,DN->BTN", (c.d_model, N), ("embed", "heads"))
      logit_BTN = Projection(*into, bias=False, name=name)(x_BTD)
      bias_N = declare(
        self, f"{name}_bias", bias, (N,), ("heads",), c.param_dtype
      )
      return cap * jnp.tanh((logit_BTN.astype(jnp.float32) + bias_N) / cap)

    i_BTN = gate("input_gate", _filled(-10.0))
    f_BTN = jax.nn.log_sigmoid(gate("forget_gate", _rising))
    before_BN = state["largest"]
    m_BTN, previous_BTN = largest(f_BTN, i_BTN, starts_BT, before_BN, empty=0.0)
    one_BTN1 = jnp.ones_like(v_BTNV[..., :1])
    h_BTNV, after = dispatch("linear_scan", c.implementation)(
      q_BTNK * K**-0.5,
      k_BTNK * jnp.exp(i_BTN - m_BTN)[..., None],
      jnp.concatenate([v_BTNV, one_BTN1], axis=-1),
      (f_BTN + previous_BTN - m_BTN)[..., None],
      starts_BT,
      state["state"],
    )
    least_BTN1 = jnp.exp(-m_BTN)[..., None]
    h_BTNV, n_BTN1 = h_BTNV[..., :-1], h_BTNV[..., -1:]
    h_BTNV /= jnp.maximum(jnp.abs(n_BTN1), least_BTN1) + 1e-6
    norm = HeadNorm(c, centered=True, scale="each", name="norm")
    gate_BTNV = self.by_head(x_BTD, "gate", V, to_branch=True)
    gate_BTNV = jax.nn.sigmoid(gate_BTNV.astype(jnp.float32))
    y_BTD = self.out(gate_BTNV * norm(h_BTNV))
    return y_BTD, {"state": after, "largest": m_BTN[:, -1]}
