"""Blockwise attention with recomputation (Dao et al. 2022, arXiv:2205.14135).

Queries are taken a block at a time, each with all keys that its last query may
see: no more than a block's scores exist, and keys after it cost nothing. The
backward pass makes the probabilities again from the scores' logsumexp.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, Int

# Queries in a block. On a CPU its scores stay in the cache; an accelerator
# wants larger matmuls.
BLOCK = {"cpu": 64, "*": 512}
# Runs of blocks with keys of their own, each one loop: compile time does not
# grow with the length, and 1/16 of the scores of a causal mask are wasted.
_RUNS = 8


def attention(
  q_BTNH: Float[Array, "B T N H"],
  k_BSKH: Float[Array, "B S K H"],
  v_BSKH: Float[Array, "B S K H"],
  *,
  causal: bool,
  q_offset: int | Int[Array, ""] = 0,
  q_segments_BT: Int[Array, "B T"] | None = None,
  k_segments_BS: Int[Array, "B S"] | None = None,
  scores: Callable[[Array], Array] | None = None,
  block: int = 0,
) -> Float[Array, "B T N H"]:
  """As the reference, `block` queries at a time (0: what suits the backend).

  Raises:
    NotImplementedError: `scores` is given; it maps whole rows.
  """
  if scores is not None:
    raise NotImplementedError(
      "model.implementation='xla': blockwise attention takes no map of scores"
      " yet; 'auto' and 'reference' do"
    )
  backend = jax.default_backend()
  block = block or BLOCK.get(backend, BLOCK["*"])
  N, H = q_BTNH.shape[2:]
  K = k_BSKH.shape[2]
  q_BTKGH = (q_BTNH * H**-0.5).reshape(*q_BTNH.shape[:2], K, N // K, H)
  static = _Static(causal, q_offset if isinstance(q_offset, int) else None)
  # Any: custom_vjp hides the type of the result.
  o_BKGTH: Any = _attend(
    static,
    block,
    q_BTKGH,
    k_BSKH,
    v_BSKH,
    _Masks(q_segments_BT, k_segments_BS, jnp.asarray(q_offset)),
  )
  return jnp.moveaxis(o_BKGTH, 3, 1).reshape(q_BTNH.shape)


class _Static(NamedTuple):
  causal: bool
  q_offset: int | None  # None: known at run time alone


class _Masks(NamedTuple):
  q_segments_BT: Array | None
  k_segments_BS: Array | None
  q_offset: Array


class _Run(NamedTuple):
  """Queries `start` to `start + n * size`, which see keys before `n_keys`."""

  start: int
  size: int
  n: int
  n_keys: int


def _runs(static: _Static, T: int, S: int, block: int) -> Iterator[_Run]:
  """Cuts the queries into at most 2 * _RUNS runs of equal blocks."""
  length = -(-T // (_RUNS * block)) * block
  for start in range(0, T, length):
    end = min(start + length, T)
    whole = (end - start) // block
    cuts = [
      (start, block, whole),
      (start + whole * block, end - start - whole * block, 1),
    ]
    for first, size, n in cuts:
      if n and size:
        n_keys = S
        if static.causal and static.q_offset is not None:
          n_keys = min(S, static.q_offset + first + n * size)
        yield _Run(first, size, n, max(n_keys, 1))


def _seen(
  causal: bool, masks: _Masks, start: Any, size: int, n_keys: int
) -> Array:
  """Which keys a block's queries see: [B or 1, 1, 1, size, n_keys]."""
  seen = jnp.ones((1, size, n_keys), bool)
  if causal:
    t = masks.q_offset + start + jnp.arange(size)[:, None]
    seen = (jnp.arange(n_keys)[None, :] <= t)[None]
  if masks.q_segments_BT is not None and masks.k_segments_BS is not None:
    q_BT = jax.lax.dynamic_slice_in_dim(masks.q_segments_BT, start, size, 1)
    k_BS = masks.k_segments_BS[:, None, :n_keys]
    seen = seen & (q_BT[:, :, None] == k_BS) & (k_BS != 0)
  return seen[:, None, None]


def _scores(q_BTKGH: Array, k_BSKH: Array, seen: Array) -> Array:
  # fp32: as in the reference.
  s_BKGTS = jnp.einsum(
    "BTKGH,BSKH->BKGTS", q_BTKGH, k_BSKH, preferred_element_type=jnp.float32
  )
  return jnp.where(seen, s_BKGTS, -jnp.inf)


def _block(a: Array, run: _Run, i: Any, axis: int) -> Array:
  start = run.start + i * run.size
  return jax.lax.dynamic_slice_in_dim(a, start, run.size, axis)


def _loop(body: Callable[[Any, Any], Any], carry: Any, n: int) -> Any:
  """scan of `body` over 0 ... n - 1, without a loop where there is one."""
  if n == 1:
    carry, y = body(carry, 0)
    return carry, jax.tree.map(lambda a: a[None], y)
  return jax.lax.scan(body, carry, jnp.arange(n))


def _joined(blocks_nX: Array, axis: int) -> Array:
  """[n, ...] blocks to one array, end to end along `axis`."""
  a = jnp.moveaxis(blocks_nX, 0, axis)
  return a.reshape(*a.shape[:axis], -1, *a.shape[axis + 2 :])


def _forward(static, block, q_BTKGH, k_BSKH, v_BSKH, masks):
  o, lse = [], []
  for run in _runs(static, q_BTKGH.shape[1], k_BSKH.shape[1], block):
    k, v = k_BSKH[:, : run.n_keys], v_BSKH[:, : run.n_keys]

    def one(carry, i, run=run, k=k, v=v):
      q = _block(q_BTKGH, run, i, 1)
      start = run.start + i * run.size
      seen = _seen(static.causal, masks, start, run.size, run.n_keys)
      s_BKGTS = _scores(q, k, seen)
      # A row that sees nothing has no maximum, and gives zeros.
      m_BKGT1 = jnp.maximum(s_BKGTS.max(-1, keepdims=True), -1e30)
      p_BKGTS = jnp.exp(s_BKGTS - m_BKGT1)
      l_BKGT1 = jnp.maximum(p_BKGTS.sum(-1, keepdims=True), 1e-30)
      o_BKGTH = jnp.einsum(
        "BKGTS,BSKH->BKGTH",
        p_BKGTS.astype(v.dtype),
        v,
        preferred_element_type=jnp.float32,
      )
      o_BKGTH = (o_BKGTH / l_BKGT1).astype(v.dtype)
      return carry, (o_BKGTH, (m_BKGT1 + jnp.log(l_BKGT1))[..., 0])

    _, (o_run, lse_run) = _loop(one, None, run.n)
    o.append(_joined(o_run, 3))
    lse.append(_joined(lse_run, 3))
  return jnp.concatenate(o, axis=3), jnp.concatenate(lse, axis=3)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _attend(static, block, q_BTKGH, k_BSKH, v_BSKH, masks):
  return _forward(static, block, q_BTKGH, k_BSKH, v_BSKH, masks)[0]


def _attend_forward(static, block, q_BTKGH, k_BSKH, v_BSKH, masks):
  o, lse = _forward(static, block, q_BTKGH, k_BSKH, v_BSKH, masks)
  # With these two kept, recomputation of a layer leaves attention out.
  o = checkpoint_name(o, "attention")
  lse = checkpoint_name(lse, "attention")
  return o, (q_BTKGH, k_BSKH, v_BSKH, masks, o, lse)


def _attend_backward(static, block, residuals, do_BKGTH):
  q_BTKGH, k_BSKH, v_BSKH, masks, o_BKGTH, lse_BKGT = residuals
  # fp32: the difference dp - delta cancels.
  delta_BKGT = jnp.sum(
    do_BKGTH.astype(jnp.float32) * o_BKGTH.astype(jnp.float32), axis=-1
  )
  dq = []
  dk = jnp.zeros(k_BSKH.shape, jnp.float32)
  dv = jnp.zeros(v_BSKH.shape, jnp.float32)
  for run in _runs(static, q_BTKGH.shape[1], k_BSKH.shape[1], block):
    k, v = k_BSKH[:, : run.n_keys], v_BSKH[:, : run.n_keys]

    def one(carry, i, run=run, k=k, v=v):
      q = _block(q_BTKGH, run, i, 1)
      do = _block(do_BKGTH, run, i, 3)
      start = run.start + i * run.size
      seen = _seen(static.causal, masks, start, run.size, run.n_keys)
      lse = _block(lse_BKGT, run, i, 3)[..., None]
      p_BKGTS = jnp.exp(_scores(q, k, seen) - lse)
      dp_BKGTS = jnp.einsum(
        "BKGTH,BSKH->BKGTS", do, v, preferred_element_type=jnp.float32
      )
      ds_BKGTS = p_BKGTS * (dp_BKGTS - _block(delta_BKGT, run, i, 3)[..., None])
      ds_BKGTS, p_BKGTS = ds_BKGTS.astype(q.dtype), p_BKGTS.astype(q.dtype)
      dq_BTKGH = jnp.einsum("BKGTS,BSKH->BTKGH", ds_BKGTS, k)
      dk_BSKH = jnp.einsum(
        "BKGTS,BTKGH->BSKH", ds_BKGTS, q, preferred_element_type=jnp.float32
      )
      dv_BSKH = jnp.einsum(
        "BKGTS,BKGTH->BSKH", p_BKGTS, do, preferred_element_type=jnp.float32
      )
      dk, dv = carry
      return (dk + dk_BSKH, dv + dv_BSKH), dq_BTKGH

    zero = jnp.zeros(k.shape, jnp.float32)
    (dk_run, dv_run), dq_run = _loop(one, (zero, zero), run.n)
    dq.append(_joined(dq_run, 1))
    dk = dk.at[:, : run.n_keys].add(dk_run)
    dv = dv.at[:, : run.n_keys].add(dv_run)
  dq = jnp.concatenate(dq, axis=1)
  return dq, dk.astype(k_BSKH.dtype), dv.astype(v_BSKH.dtype), None


_attend.defvjp(_attend_forward, _attend_backward)
