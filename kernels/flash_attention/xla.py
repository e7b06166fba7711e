"""Blockwise attention with recomputation (Dao et al. 2022, arXiv:2205.14135).

Queries are taken a block at a time, each with all keys that its queries may
see: no more than a block's scores exist, and keys after it, or before its
window, cost nothing. Under a mask of pairs the keys come in tiles, and a tile
that no query of the block sees is skipped when it runs. The backward pass
makes the probabilities again from the scores' logsumexp.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, Int

from . import Pairs
from .blocks import Run, Static, Tile, cut, first_key, loop, runs, tiles
from .gradients import add, add_pairs, of_floats, split

# Queries in a block. On a CPU its scores stay in the cache; an accelerator
# wants larger matmuls.
BLOCK = {"cpu": 64, "*": 512}
# Keys in a tile that a mask may skip.
TILE = {"cpu": 128, "*": 512}


@jax.named_scope("flash_attention")
def attention(
  q_BTNH: Float[Array, "B T N H"],
  k_BSKH: Float[Array, "B S K H"],
  v_BSKV: Float[Array, "B S K V"],
  *,
  causal: bool,
  window: int = 0,
  q_offset: int | Int[Array, ""] = 0,
  q_segments_BT: Int[Array, "B T"] | None = None,
  k_segments_BS: Int[Array, "B S"] | None = None,
  mask: Pairs | None = None,
  scores: Pairs | None = None,
  scale: float | None = None,
  soft_cap: float = 0.0,
  sinks_N: Float[Array, " N"] | None = None,
  return_lse: bool = False,
  block: int = 0,
  tile: int = 0,
) -> Any:
  """As the reference, `block` queries at a time (0: what suits the backend).

  Args:
    tile: keys at a time under a mask (0: what suits the backend).
  """
  backend = jax.default_backend()
  block = block or BLOCK.get(backend, BLOCK["*"])
  tile = tile or TILE.get(backend, TILE["*"])
  B, T, N, H = q_BTNH.shape
  K = k_BSKH.shape[2]
  factor = float(H**-0.5 if scale is None else scale)
  # Heads before positions: a block's products are then plain matrix products.
  q_BTKGH = (q_BTNH * factor).astype(q_BTNH.dtype).reshape(B, T, K, N // K, H)
  offset = q_offset if isinstance(q_offset, int) else None
  static = Static(causal, window, offset, soft_cap, block, tile if mask else 0)
  given = _Given(
    jnp.moveaxis(q_BTKGH, 1, 3),
    jnp.moveaxis(k_BSKH, 1, 2),
    jnp.moveaxis(v_BSKV, 1, 2),
    None if sinks_N is None else sinks_N.astype(jnp.float32),
    scores,
  )
  masks = _Masks(q_segments_BT, k_segments_BS, jnp.asarray(q_offset), mask)
  # Any: custom_vjp hides the type of the result.
  result: Any = _attend(static, given, masks)
  o_BKGTV, lse_BKGT = result
  o_BTNV = jnp.moveaxis(o_BKGTV, 3, 1).reshape(B, T, N, -1)
  if not return_lse:
    return o_BTNV
  return o_BTNV, jnp.moveaxis(lse_BKGT, 3, 1).reshape(B, T, N)


class _Given(NamedTuple):
  """What has gradients."""

  q_BKGTH: Array
  k_BKSH: Array
  v_BKSV: Array
  sinks_N: Array | None
  scores: Pairs | None


class _Masks(NamedTuple):
  q_segments_BT: Array | None
  k_segments_BS: Array | None
  q_offset: Array
  mask: Pairs | None


def _seen(static: Static, masks: _Masks, at: Tile) -> Array:
  """Which keys a tile's queries see, but for the mask: [B or 1, 1, T, S]."""
  s = at.key + jnp.arange(at.n_keys)[None, :]
  t = masks.q_offset + at.query + jnp.arange(at.n_queries)[:, None]
  seen = jnp.ones((1, at.n_queries, at.n_keys), bool)
  if static.causal:
    seen = seen & (s <= t)
  if static.window:
    seen = seen & (t - s < static.window)
    if not static.causal:
      seen = seen & (s - t < static.window)
  if static.tile:
    seen = seen & (s >= at.fresh)
  if masks.q_segments_BT is not None and masks.k_segments_BS is not None:
    q_BT = cut(masks.q_segments_BT, at.query, at.n_queries, 1)[:, :, None]
    k_BS = cut(masks.k_segments_BS, at.key, at.n_keys, 1)[:, None, :]
    seen = seen & (q_BT == k_BS) & (k_BS != 0)
  return seen[:, None]


def _by_head(seen: Array, mask: Pairs | None, at: Tile, q: Array) -> Array:
  """`seen` and the mask of pairs, heads as [K, G]."""
  if mask is None:
    return seen[:, None]
  seen = seen & mask.at(at.query, at.n_queries, at.key, at.n_keys)()
  if seen.shape[1] == 1:
    return seen[:, None]
  return seen.reshape(seen.shape[0], *q.shape[1:3], *seen.shape[2:])


def _mapped(static: Static, s_BKGTS: Array, scores: Pairs | None) -> Array:
  """Scores after cap and map; both have gradients."""
  if static.soft_cap:
    s_BKGTS = static.soft_cap * jnp.tanh(s_BKGTS / static.soft_cap)
  if scores is not None:
    B, K, G, T, S = s_BKGTS.shape
    s_BNTS = scores(s_BKGTS.reshape(B, K * G, T, S))
    s_BKGTS = s_BNTS.reshape(B, K, G, T, S)
  return s_BKGTS


def _product(q_BKGTH: Array, k_BKSH: Array) -> Array:
  # fp32: as in the reference.
  return jnp.einsum(
    "BKGTH,BKSH->BKGTS", q_BKGTH, k_BKSH, preferred_element_type=jnp.float32
  )


def _over_tiles(
  static: Static,
  masks: _Masks,
  run: Run,
  i: Any,
  q: Array,
  S: int,
  step: Callable[[Any, Tile, Array], Any],
  carry: Any,
) -> Any:
  """Calls `step(carry, tile, seen)` for each tile that a query may see."""
  first = first_key(static, run, i, masks.q_offset, S)
  size, n = tiles(static, run)
  query = run.start + i * run.size

  def one(carry, j):
    fresh = first + j * size
    # The last tile may begin among the keys of the one before.
    key = jnp.minimum(fresh, first + run.span - size) if n > 1 else first
    at = Tile(query, run.size, key, size, fresh)
    seen = _by_head(_seen(static, masks, at), masks.mask, at, q)
    if masks.mask is None or n == 1:
      return step(carry, at, seen), None
    done = jax.lax.cond(
      seen.any(), lambda c: step(c, at, seen), lambda c: c, carry
    )
    return done, None

  return loop(one, carry, n)[0]


def _joined(blocks_nX: Array, axis: int) -> Array:
  """[n, ...] blocks to one array, end to end along `axis`."""
  a = jnp.moveaxis(blocks_nX, 0, axis)
  return a.reshape(*a.shape[:axis], -1, *a.shape[axis + 2 :])


def _forward(static: Static, given: _Given, masks: _Masks):
  q_BKGTH, k_BKSH, v_BKSV, sinks_N, scores = given
  B, K, G, T, _ = q_BKGTH.shape
  S, V = v_BKSV.shape[2:]
  o, lse = [], []
  for run in runs(static, T, S):

    def one(carry, i, run=run):
      q = cut(q_BKGTH, run.start + i * run.size, run.size, 3)

      def step(carry, at, seen):
        m_BKGT1, l_BKGT1, o_BKGTV = carry
        k = cut(k_BKSH, at.key, at.n_keys, 2)
        v = cut(v_BKSV, at.key, at.n_keys, 2)
        here = scores and scores.at(at.query, at.n_queries, at.key, at.n_keys)
        s_BKGTS = _mapped(static, _product(q, k), here)
        s_BKGTS = jnp.where(seen, s_BKGTS, -jnp.inf)
        m_new = jnp.maximum(m_BKGT1, s_BKGTS.max(-1, keepdims=True))
        p_BKGTS = jnp.exp(s_BKGTS - m_new)
        grown = jnp.exp(m_BKGT1 - m_new)
        o_new = jnp.einsum(
          "BKGTS,BKSV->BKGTV",
          p_BKGTS.astype(v.dtype),
          v,
          preferred_element_type=jnp.float32,
        )
        l_new = l_BKGT1 * grown + p_BKGTS.sum(-1, keepdims=True)
        return m_new, l_new, o_BKGTV * grown + o_new

      # A row that sees nothing has no maximum, and gives zeros.
      shape = (B, K, G, run.size, 1)
      start = jnp.full(shape, -1e30), jnp.zeros(shape)
      if sinks_N is not None:
        sink_BKGT1 = jnp.broadcast_to(sinks_N.reshape(K, G, 1, 1), shape)
        start = sink_BKGT1, jnp.ones(shape)
      start = (*start, jnp.zeros((B, K, G, run.size, V)))
      m_BKGT1, l_BKGT1, o_BKGTV = _over_tiles(
        static, masks, run, i, q, S, step, start
      )
      l_BKGT1 = jnp.maximum(l_BKGT1, 1e-30)
      o_BKGTV = (o_BKGTV / l_BKGT1).astype(v_BKSV.dtype)
      return carry, (o_BKGTV, (m_BKGT1 + jnp.log(l_BKGT1))[..., 0])

    _, (o_run, lse_run) = loop(one, None, run.n)
    o.append(_joined(o_run, 3))
    lse.append(_joined(lse_run, 3))
  return jnp.concatenate(o, axis=3), jnp.concatenate(lse, axis=3)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(static, given, masks):
  return _forward(static, given, masks)


def _attend_forward(static, given, masks):
  o, lse = _forward(static, given, masks)
  # With these two kept, recomputation of a layer leaves attention out.
  o = checkpoint_name(o, "attention")
  lse = checkpoint_name(lse, "attention")
  return (o, lse), (given, masks, o, lse)


def _attend_backward(static, residuals, cotangents):
  given, masks, o_BKGTV, lse_BKGT = residuals
  q_BKGTH, k_BKSH, v_BKSV, sinks_N, scores = given
  do_BKGTV, dlse_BKGT = cotangents
  S = k_BKSH.shape[2]
  # fp32: the difference dp - delta cancels.
  delta_BKGT = jnp.sum(
    do_BKGTV.astype(jnp.float32) * o_BKGTV.astype(jnp.float32), axis=-1
  )
  delta_BKGT = delta_BKGT - dlse_BKGT

  def zeros(a):
    return jnp.zeros(a.shape, jnp.float32)

  # H before S: the left operand, which a CPU turns round, is the small one.
  carry = (
    zeros(jnp.swapaxes(k_BKSH, 2, 3)),
    zeros(jnp.swapaxes(v_BKSV, 2, 3)),
    of_floats(scores, [zeros(a) for a in split(scores)[0]]),
  )
  dq = []
  for run in runs(static, q_BKGTH.shape[3], S):

    def one(carry, i, run=run):
      query = run.start + i * run.size
      q = cut(q_BKGTH, query, run.size, 3)
      do = cut(do_BKGTV, query, run.size, 3)
      lse = cut(lse_BKGT, query, run.size, 3)[..., None]
      delta = cut(delta_BKGT, query, run.size, 3)[..., None]

      def step(carry, at, seen):
        dq_BKGTH, dk, dv, dpairs = carry
        k = cut(k_BKSH, at.key, at.n_keys, 2)
        v = cut(v_BKSV, at.key, at.n_keys, 2)
        here = scores and scores.at(at.query, at.n_queries, at.key, at.n_keys)
        floats, put = split(here)
        s_BKGTS, pull = jax.vjp(
          lambda s, floats: _mapped(static, s, put(floats)),
          _product(q, k),
          floats,
        )
        p_BKGTS = jnp.where(seen, jnp.exp(s_BKGTS - lse), 0)
        dp_BKGTS = jnp.einsum(
          "BKGTV,BKSV->BKGTS", do, v, preferred_element_type=jnp.float32
        )
        ds_BKGTS, dfloats = pull(p_BKGTS * (dp_BKGTS - delta))
        ds_BKGTS, p_BKGTS = ds_BKGTS.astype(q.dtype), p_BKGTS.astype(q.dtype)
        dq_BKGTH = dq_BKGTH + jnp.einsum(
          "BKGTS,BKSH->BKGTH", ds_BKGTS, k, preferred_element_type=jnp.float32
        )
        dk_BKHS = jnp.einsum(
          "BKGTH,BKGTS->BKHS", q, ds_BKGTS, preferred_element_type=jnp.float32
        )
        dv_BKVS = jnp.einsum(
          "BKGTV,BKGTS->BKVS", do, p_BKGTS, preferred_element_type=jnp.float32
        )
        return (
          dq_BKGTH,
          add(dk, dk_BKHS, at.key, 3),
          add(dv, dv_BKVS, at.key, 3),
          add_pairs(dpairs, of_floats(here, dfloats), at),
        )

      start = (zeros(q), *carry)
      dq_BKGTH, *carry = _over_tiles(static, masks, run, i, q, S, step, start)
      return tuple(carry), dq_BKGTH.astype(q.dtype)

    carry, dq_run = loop(one, carry, run.n)
    dq.append(_joined(dq_run, 3))
  # A lone block's product and this transpose XLA would make one product: of the
  # other order, which in bf16 it can't run on a CPU.
  dk, dv, dpairs = jax.lax.optimization_barrier(carry)
  dsinks = None
  if sinks_N is not None:
    sink_BKGT = sinks_N.reshape(*lse_BKGT.shape[1:3], 1)
    dsink_BKGT = -jnp.exp(sink_BKGT - lse_BKGT) * delta_BKGT
    dsinks = dsink_BKGT.sum((0, 3)).reshape(sinks_N.shape)
  if scores is not None:
    kinds = of_floats(scores, split(scores)[0])
    dpairs = jax.tree.map(lambda d, a: d.astype(a.dtype), dpairs, kinds)
  return (
    _Given(
      jnp.concatenate(dq, axis=3),
      jnp.swapaxes(dk, 2, 3).astype(k_BKSH.dtype),
      jnp.swapaxes(dv, 2, 3).astype(v_BKSV.dtype),
      dsinks,
      dpairs,
    ),
    None,
  )


_attend.defvjp(_attend_forward, _attend_backward)
