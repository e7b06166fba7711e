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
  # Heads before positions: a block's products are then plain matrix products.
  q_BTKGH = (q_BTNH * H**-0.5).reshape(*q_BTNH.shape[:2], K, N // K, H)
  static = _Static(causal, q_offset if isinstance(q_offset, int) else None)
  # Any: custom_vjp hides the type of the result.
  o_BKGTH: Any = _attend(
    static,
    block,
    jnp.moveaxis(q_BTKGH, 1, 3),
    jnp.moveaxis(k_BSKH, 1, 2),
    jnp.moveaxis(v_BSKH, 1, 2),
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


def _scores(q_BKGTH: Array, k_BKSH: Array, seen: Array) -> Array:
  # fp32: as in the reference.
  s_BKGTS = jnp.einsum(
    "BKGTH,BKSH->BKGTS", q_BKGTH, k_BKSH, preferred_element_type=jnp.float32
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


def _forward(static, block, q_BKGTH, k_BKSH, v_BKSH, masks):
  o, lse = [], []
  for run in _runs(static, q_BKGTH.shape[3], k_BKSH.shape[2], block):
    k, v = k_BKSH[:, :, : run.n_keys], v_BKSH[:, :, : run.n_keys]

    def one(carry, i, run=run, k=k, v=v):
      q = _block(q_BKGTH, run, i, 3)
      start = run.start + i * run.size
      seen = _seen(static.causal, masks, start, run.size, run.n_keys)
      s_BKGTS = _scores(q, k, seen)
      # A row that sees nothing has no maximum, and gives zeros.
      m_BKGT1 = jnp.maximum(s_BKGTS.max(-1, keepdims=True), -1e30)
      p_BKGTS = jnp.exp(s_BKGTS - m_BKGT1)
      l_BKGT1 = jnp.maximum(p_BKGTS.sum(-1, keepdims=True), 1e-30)
      o_BKGTH = jnp.einsum(
        "BKGTS,BKSH->BKGTH",
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
def _attend(static, block, q_BKGTH, k_BKSH, v_BKSH, masks):
  return _forward(static, block, q_BKGTH, k_BKSH, v_BKSH, masks)[0]


def _attend_forward(static, block, q_BKGTH, k_BKSH, v_BKSH, masks):
  o, lse = _forward(static, block, q_BKGTH, k_BKSH, v_BKSH, masks)
  # With these two kept, recomputation of a layer leaves attention out.
  o = checkpoint_name(o, "attention")
  lse = checkpoint_name(lse, "attention")
  return o, (q_BKGTH, k_BKSH, v_BKSH, masks, o, lse)


def _attend_backward(static, block, residuals, do_BKGTH):
  q_BKGTH, k_BKSH, v_BKSH, masks, o_BKGTH, lse_BKGT = residuals
  # fp32: the difference dp - delta cancels.
  delta_BKGT = jnp.sum(
    do_BKGTH.astype(jnp.float32) * o_BKGTH.astype(jnp.float32), axis=-1
  )
  dq = []
  B, K, S, H = k_BKSH.shape
  dk = dv = jnp.zeros((B, K, H, S), jnp.float32)
  for run in _runs(static, q_BKGTH.shape[3], k_BKSH.shape[2], block):
    k, v = k_BKSH[:, :, : run.n_keys], v_BKSH[:, :, : run.n_keys]

    def one(carry, i, run=run, k=k, v=v):
      q = _block(q_BKGTH, run, i, 3)
      do = _block(do_BKGTH, run, i, 3)
      start = run.start + i * run.size
      seen = _seen(static.causal, masks, start, run.size, run.n_keys)
      lse = _block(lse_BKGT, run, i, 3)[..., None]
      p_BKGTS = jnp.exp(_scores(q, k, seen) - lse)
      dp_BKGTS = jnp.einsum(
        "BKGTH,BKSH->BKGTS", do, v, preferred_element_type=jnp.float32
      )
      ds_BKGTS = p_BKGTS * (dp_BKGTS - _block(delta_BKGT, run, i, 3)[..., None])
      ds_BKGTS, p_BKGTS = ds_BKGTS.astype(q.dtype), p_BKGTS.astype(q.dtype)
      dq_BKGTH = jnp.einsum("BKGTS,BKSH->BKGTH", ds_BKGTS, k)
      # H before S: the left operand, which a CPU turns round, is the small one.
      dk_BKHS = jnp.einsum(
        "BKGTH,BKGTS->BKHS", q, ds_BKGTS, preferred_element_type=jnp.float32
      )
      dv_BKHS = jnp.einsum(
        "BKGTH,BKGTS->BKHS", do, p_BKGTS, preferred_element_type=jnp.float32
      )
      dk, dv = carry
      return (dk + dk_BKHS, dv + dv_BKHS), dq_BKGTH

    zero = jnp.zeros((*k.shape[:2], k.shape[3], run.n_keys), jnp.float32)
    (dk_run, dv_run), dq_run = _loop(one, (zero, zero), run.n)
    dq.append(_joined(dq_run, 3))
    dk = dk.at[..., : run.n_keys].add(dk_run)
    dv = dv.at[..., : run.n_keys].add(dv_run)
  # A lone block's product and this transpose XLA would make one product: of the
  # other order, which in bf16 it can't run on a CPU.
  dk, dv = jax.lax.optimization_barrier((dk, dv))
  dk = jnp.swapaxes(dk, 2, 3).astype(k_BKSH.dtype)
  dv = jnp.swapaxes(dv, 2, 3).astype(v_BKSH.dtype)
  return jnp.concatenate(dq, axis=3), dk, dv, None


_attend.defvjp(_attend_forward, _attend_backward)
