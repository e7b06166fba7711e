"""Mamba-3 (Lahoti et al. 2026, arXiv:2603.15569).

A head's state decays, turns in pairs of its numbers, and takes what comes in
by the exponential-trapezoidal rule (equation 25; ' is of the token before):

    h = alpha R h' + beta R B' x' + gamma B x,    y = C h
    alpha = exp(-A dt),  beta = (1 - lambda) dt alpha,  gamma = lambda dt

With B and C turned by the sum of all angles so far, as RoPE turns keys and
queries, R drops out (proposition 4). What is left is one linear scan of what
the tokens before wrote, and beside it the token's own part:

    e = alpha e' + (alpha gamma' + beta) B' x',    y = C e + gamma C B x

The authors' kernels write B x whole, with what is the next token's beta, and
subtract that; here no output holds a rounding of a later token.

With R ranks (MIMO, section 3.3) a token writes R outer products and reads R
times. Channels are multiplied by weights of each rank, and added up so again
(appendix C).

Of the paper are too: norms of B and C, then biases of each head; A from the
token; no convolution, nor activation of x. Of the authors' code alone
(state-spaces/mamba): A = softplus(W x), at least 1e-4; angles pi tanh(W x) dt,
W x common to all heads; that half of the state turns; and the skip. Here these
W x are fp32.
"""

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ...errors import UserError, at_least, nearest
from ...kernels.dispatch import dispatch
from ..linear import Projection
from ..param import Init, declare, ones
from .decay import inverse_softplus_of_steps
from .mamba2 import HeadsOfChannels, SizeOptions
from .recurrence import HEADS, HeadNorm, Leaf, last_ones

LEAST_RATE = 1e-4  # of A
# lambda of a rule; "learned" is sigmoid(W x).
RULES = {"learned": None, "trapezoidal": 0.5, "euler": 1.0}


@dataclasses.dataclass(frozen=True)
class Options(SizeOptions):
  rank: int = 1  # R: inputs and outputs of a head's state; the paper's MIMO: 4
  rule: str = "learned"  # of lambda | trapezoidal, 1/2 | euler, 1 (Mamba-2's)
  rope_fraction: float = 0.5  # share of the state that turns; 0: none
  bc_bias: bool = True  # of B and C after their norms; they start at 1
  norm: bool = False  # of each head's output before the gate, as in hybrids

  def __post_init__(self):
    super().__post_init__()
    at_least(1, self, "rank")
    if self.rule not in RULES:
      raise UserError(
        f"rule={self.rule!r} is not one of {', '.join(RULES)}"
        f"{nearest(self.rule, RULES)}"
      )
    if not 0 <= self.rope_fraction <= 1:
      raise UserError(f"rope_fraction={self.rope_fraction} must be in [0, 1]")
    if self.rope_fraction and not self.pairs:
      raise UserError(
        f"rope_fraction={self.rope_fraction} of state={self.state} is not a"
        " pair of numbers, which could turn; use 0 for none"
      )

  @property
  def pairs(self) -> int:
    """A, how many pairs of the state's numbers turn."""
    return int(self.state * self.rope_fraction) // 2


class Mamba3(HeadsOfChannels):
  """Mamba-2's heads, with a trapezoidal rule, rotations and ranks."""

  word = "mamba3"
  option_type = Options

  @classmethod
  def leaves(cls, config):
    o, (N, V) = cls.options(config), cls.sizes(config)
    leaves = {
      "state": Leaf((N, o.state, V)),  # e
      # Of the last token; B as it was turned.
      "gamma": Leaf((1, N)),
      "b": Leaf((1, o.rank, N, o.state)),
      "x": Leaf((1, N, V), config.compute_dtype),
    }
    return leaves | ({"turns": Leaf((N, o.pairs))} if o.pairs else {})

  def numbers(
    self, x_BTD: Array, name: str, size: int, axis: str
  ) -> Float[Array, "B T X"]:
    # fp32: roundings of angles and steps add up over thousands of tokens.
    c = dataclasses.replace(
      self.config, compute_dtype="float32", matmul="default"
    )
    shape, axes = (x_BTD.shape[-1], size), ("embed", axis)
    return Projection(c, "BTD,DX->BTX", shape, axes, bias=False, name=name)(
      x_BTD
    )

  def steps(
    self, x_BTD: Array
  ) -> tuple[Float[Array, "B T N"], Float[Array, "B T N"]]:
    """dt, and the log decay -A dt."""
    N, dtype = self.sizes(self.config)[0], self.config.param_dtype
    initial = inverse_softplus_of_steps(1e-3, 1e-1)
    bias_N = declare(self, "dt_bias", initial, (N,), ("heads",), dtype)
    dt_BTN = jax.nn.softplus(self.numbers(x_BTD, "dt", N, "heads") + bias_N)
    rate_BTN = jax.nn.softplus(self.numbers(x_BTD, "rate", N, "heads"))
    return dt_BTN, -jnp.maximum(rate_BTN, LEAST_RATE) * dt_BTN

  def vectors(self, x_BTD: Array, name: str) -> Float[Array, "B T R N K"]:
    """B or C: of each group after its norm, of each head with its bias."""
    c, o = self.config, self.options(self.config)
    N, G, R, K = self.sizes(c)[0], o.groups, o.rank, o.state
    y = self.into(x_BTD, name, (R * G, K), ("latent", "head_dim"))
    y = HeadNorm(c, name=f"{name}_norm")(y)
    y = jnp.repeat(y.reshape(*y.shape[:2], R, G, K), N // G, axis=3)
    if not o.bc_bias:
      return y
    axes = ("latent", *HEADS)
    return y + declare(
      self, f"{name}_bias", ones, (R, N, K), axes, c.param_dtype
    )

  def by_rank(self, name: str, initial: float) -> Float[Array, "R N V"] | float:
    """What channels are multiplied by in each rank; one rank is as it is."""
    c, R = self.config, self.options(self.config).rank
    if R == 1:
      return 1.0
    shape, axes = (R, *self.sizes(c)), ("latent", *HEADS)
    return declare(self, name, _constant(initial), shape, axes, c.param_dtype)

  def mix(self, x_BTD, ctx, starts_BT, state):
    c, o = self.config, self.options(self.config)
    (N, V), R, A = self.sizes(c), o.rank, o.pairs
    x_BTNV, gate_BTNV = (
      self.into(x_BTD, name, (N, V), HEADS, to_branch=True)
      for name in ("x", "gate")
    )
    dt_BTN, g_BTN = self.steps(x_BTD)
    k_BTRNK, q_BTRNK = (self.vectors(x_BTD, name) for name in "bc")
    kept = {}
    if A:
      # pi is half a turn.
      angle_BTA = jnp.tanh(self.numbers(x_BTD, "angle", A, "latent")) / 2
      turns_BTNA = dt_BTN[..., None] * angle_BTA[:, :, None]
      turns_BTNA = sums_of_turns(turns_BTNA, starts_BT, state["turns"])
      kept["turns"] = turns_BTNA[:, -1]
      k_BTRNK, q_BTRNK = (turned(a, turns_BTNA) for a in (k_BTRNK, q_BTRNK))
    if (share := RULES[o.rule]) is None:
      share = jax.nn.sigmoid(self.numbers(x_BTD, "trapezoid", N, "heads"))
    gamma_BTN = share * dt_BTN

    # Of the token before, if it is of the document.
    (gamma0_BTN, _), kept["gamma"] = last_ones(
      gamma_BTN, starts_BT, state["gamma"]
    )
    (k0_BTRNK, _), kept["b"] = last_ones(k_BTRNK, starts_BT, state["b"])
    (x0_BTNV, _), kept["x"] = last_ones(x_BTNV, starts_BT, state["x"])
    weight_BTN = jnp.exp(g_BTN) * (gamma0_BTN + dt_BTN - gamma_BTN)
    k0_BTRNK *= weight_BTN[:, :, None, :, None]
    k_BTRNK *= gamma_BTN[:, :, None, :, None]

    up_RNV = self.by_rank("up_x", 1 / R)
    v_BTRNV, v0_BTRNV = (
      up_RNV * a.astype(jnp.float32)[:, :, None] for a in (x_BTNV, x0_BTNV)
    )
    y_BTRNV, kept["state"] = scan_ranks(
      dispatch("linear_scan", c.implementation),
      (q_BTRNK, k0_BTRNK, v0_BTRNV),
      g_BTN,
      starts_BT,
      state["state"],
    )
    y_BTRNV += within(q_BTRNK, k_BTRNK, v_BTRNV, jnp.ones((R, R)))
    skip_N = declare(self, "skip", ones, (N,), ("heads",), c.param_dtype)
    y_BTRNV += skip_N[:, None] * v_BTRNV
    if o.norm:
      norm = HeadNorm(c, scale="each", name="norm")
      y_BTRNV = norm(_as_tokens(y_BTRNV)).reshape(y_BTRNV.shape)
    gate_BTRNV = gate_BTNV.astype(jnp.float32)[:, :, None]
    y_BTRNV *= jax.nn.silu(self.by_rank("up_gate", 1.0) * gate_BTRNV)
    y_BTNV = (self.by_rank("down", 1 / R) * y_BTRNV).sum(2)
    return self.out(y_BTNV), kept


@functools.cache
def _constant(value: float) -> Init:
  return lambda _, shape, dtype: jnp.full(shape, value, dtype)


def sums_of_turns(
  turns_BTNA: Float[Array, "B T N A"],
  starts_BT: Bool[Array, "B T"],
  before_BNA: Float[Array, "B N A"],
) -> Float[Array, "B T N A"]:
  """Sums within each document, between -1/2 and 1/2.

  Whole turns are left out at each of log T additions, exactly, as in radians
  they are not. Only differences within a document count; but sums that went on
  would leave roundings of it in the gradients of those before.
  """

  def rest(turns):
    return turns - jnp.round(turns)

  def join(a, b):
    return rest(jnp.where(b[1], b[0], a[0] + b[0])), a[1] | b[1]

  turns_BSNA = jnp.concatenate([before_BNA[:, None], rest(turns_BTNA)], axis=1)
  starts_BS11 = jnp.pad(starts_BT, ((0, 0), (1, 0)))[..., None, None]
  found = jax.lax.associative_scan(join, (turns_BSNA, starts_BS11), axis=1)
  return found[0][:, 1:]


def turned(
  x_BTRNK: Float[Array, "B T R N K"], turns_BTNA: Float[Array, "B T N A"]
) -> Float[Array, "B T R N K"]:
  """The first A pairs (2i, 2i + 1) turned."""
  A = turns_BTNA.shape[-1]
  angle_BT1NA = 2 * math.pi * turns_BTNA[:, :, None]
  cos, sin = jnp.cos(angle_BT1NA), jnp.sin(angle_BT1NA)
  a, b = x_BTRNK[..., 0 : 2 * A : 2], x_BTRNK[..., 1 : 2 * A : 2]
  pairs = jnp.stack([a * cos - b * sin, a * sin + b * cos], axis=-1)
  pairs = pairs.reshape(*a.shape[:-1], 2 * A)
  return jnp.concatenate([pairs, x_BTRNK[..., 2 * A :]], axis=-1)


def within(
  q_BTRNK: Float[Array, "B T R N K"],
  k_BTSNK: Float[Array, "B T S N K"],
  v_BTSNV: Float[Array, "B T S N V"],
  seen_RS: Float[Array, "R S"],
) -> Float[Array, "B T R N V"]:
  """What ranks read of ranks that one token has written."""
  pairs_BTNRS = jnp.einsum("BTRNK,BTSNK->BTNRS", q_BTRNK, k_BTSNK) * seen_RS
  return jnp.einsum("BTNRS,BTSNV->BTRNV", pairs_BTNRS, v_BTSNV)


def scan_ranks(
  scan: Callable[..., tuple[Array, Array]],
  qkv: tuple[Array, Array, Array],
  g_BTN: Float[Array, "B T N"],
  starts_BT: Bool[Array, "B T"],
  state_BNKV: Float[Array, "B N K V"],
) -> tuple[Float[Array, "B T R N V"], Float[Array, "B N K V"]]:
  """A linear scan where each of R reads of a token sees each of its R writes.

  Ranks stand in it as tokens, of which the first decays; what later ones write
  is then added to what earlier ones read.

  Args:
    qkv: [B, T, R, N, X] each.
  """
  (B, T, R), N = qkv[0].shape[:3], g_BTN.shape[2]
  g_BTRN = jnp.pad(g_BTN[:, :, None], ((0, 0), (0, 0), (0, R - 1), (0, 0)))
  starts_BTR = jnp.pad(starts_BT[..., None], ((0, 0), (0, 0), (0, R - 1)))
  y, state_BNKV = scan(
    *map(_as_tokens, qkv),
    g_BTRN.reshape(B, T * R, N, 1),
    starts_BTR.reshape(B, T * R),
    state_BNKV,
  )
  y_BTRNV = y.reshape(qkv[2].shape)
  if R > 1:
    y_BTRNV += within(*qkv, jnp.triu(jnp.ones((R, R)), 1))
  return y_BTRNV, state_BNKV


def _as_tokens(a_BTRNX: Array) -> Array:
  B, T, R = a_BTRNX.shape[:3]
  return a_BTRNX.reshape(B, T * R, *a_BTRNX.shape[3:])
