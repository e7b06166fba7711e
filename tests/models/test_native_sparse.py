"""Native sparse attention as the paper's equations say, in float64 by loops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ablax.errors import UserError
from ablax.models.context import Context
from ablax.models.mixers import MIXERS
from ablax.models.once import Alone
from ablax.models.param import init_params, specs

PROVES = ("mixer:native_sparse",)
AGAINST = "float64 loops"

B, T, D, N, K, H = 2, 37, 24, 4, 2, 6
# l, d, l', n and w: blocks that overlap, and a choice of 1 among up to 6.
SIZES = {
  "block": 4,
  "stride": 2,
  "select_block": 4,
  "n_selected": 4,
  "window": 5,
}
# Each row's documents end there; the second row ends in padding.
ROWS = ((3, 37), (23, 35))


def turned(x_H, at):
  """RoPE, as rope.py's first line says: pair i by at * theta^(-2i/H)."""
  half = H // 2
  angle = at * 10_000.0 ** (-np.arange(half) * 2 / H)
  a, b = x_H[:half], x_H[half:]
  return np.concatenate(
    [
      a * np.cos(angle) - b * np.sin(angle),
      b * np.cos(angle) + a * np.sin(angle),
    ]
  )


def softmax(scores):
  w = np.exp(np.array(scores) - np.max(scores))
  return w / w.sum()


def gelu(x):
  return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def phi(p, blocks_QH):
  """Equation 7's MLP, of one block of one head."""
  x_QH = blocks_QH + p["place"]
  return (
    gelu(np.einsum("QH,QHF->F", x_QH, p["up"]["kernel"])) @ p["down"]["kernel"]
  )


def of_document(p, x, rope, block, stride, select_block, n_selected, window):
  """One document [t, D] on its own: equations 5 to 12.

  t counts from 1, as in the paper, and so do blocks in equation 9.

  Returns:
    out [t, D], and the blocks that each token and group selects.
  """
  d, chunk = stride, select_block
  turn = turned if rope else lambda x, at: x
  length, G = len(x), N // K
  q = np.einsum("TD,DNH->TNH", x, p["q"]["kernel"])
  kv = {
    name: np.einsum("TD,DKH->TKH", x, p[name]["kernel"])
    for name in p
    if name[-2:] in ("_k", "_v") and "kernel" in p[name]
  }
  gate = np.einsum("TD,DIN->TNI", x, p["gate"]["kernel"])
  gate = 1 / (1 + np.exp(-gate))
  out, picked = np.zeros((length, N, H)), []

  def attend(qt, keys, values):
    weights = softmax([qt @ key / H**0.5 for key in keys])
    return sum(a * v for a, v in zip(weights, values, strict=True)), weights

  for t in range(1, length + 1):
    for g in range(K):
      heads = range(g * G, (g + 1) * G)
      # Equation 7: blocks of the tokens id + 1 ... id + l, none after t.
      starts = [i * d for i in range(length) if i * d + block <= t]
      keys, values = (
        [
          phi(p[f"compress_{c}"], kv[f"compressed_{c}"][s : s + block, g])
          for s in starts
        ]
        for c in "kv"
      )
      keys = [turn(k, s + block - 1) for k, s in zip(keys, starts, strict=True)]
      n_blocks = -(-t // chunk)
      score = np.zeros(n_blocks + 1)  # from 1 on
      for h in heads:
        if not starts:
          continue
        o, weights = attend(turn(q[t - 1, h], t - 1), keys, values)
        out[t - 1, h] += gate[t - 1, h, 0] * o
        # Equations 9 and 10.
        for j in range(1, n_blocks + 1):
          for m in range(chunk // d):
            for i in range(block // d):
              at = chunk // d * j - m - i
              if 1 <= at <= len(weights):
                score[j] += weights[at - 1]
      # Equation 11: always the first block and the last two.
      always = {1, n_blocks, max(n_blocks - 1, 1)}
      rest = [j for j in range(1, n_blocks + 1) if j not in always]
      rest.sort(key=lambda j: -score[j])
      chosen = sorted(always | set(rest[: n_selected - 3]))
      picked.append((n_blocks, chosen))
      seen = [
        s for j in chosen for s in range((j - 1) * chunk, min(j * chunk, t))
      ]
      near = range(max(0, t - window), t)
      for i, (branch, tokens) in enumerate(
        (("selected", seen), ("window", near)), start=1
      ):
        for h in heads:
          o, _ = attend(
            turn(q[t - 1, h], t - 1),
            [turn(kv[f"{branch}_k"][s, g], s) for s in tokens],
            [kv[f"{branch}_v"][s, g] for s in tokens],
          )
          out[t - 1, h] += gate[t - 1, h, i] * o
  return np.einsum("TNH,NHD->TD", out, p["o"]["kernel"]), picked


def by_paper(params, x, rows, rope=True, **sizes):
  """Each document of each row on its own; zeros where there is none."""
  p = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
  x = np.asarray(x, np.float64)
  out, picked = np.zeros_like(x), []
  for b, ends in enumerate(rows):
    for start, end in zip((0, *ends), ends, strict=False):
      out[b, start:end], found = of_document(p, x[b, start:end], rope, **sizes)
      picked += found
  return out, picked


def context(rows):
  """Of rows of documents that end at these slots."""
  length = max(map(max, rows))
  positions, segments = np.zeros((2, len(rows), length), np.int32)
  for b, ends in enumerate(rows):
    for i, (start, end) in enumerate(zip((0, *ends), ends, strict=False)):
      segments[b, start:end] = i + 1
      positions[b, start:end] = np.arange(end - start)
  return Context(jnp.asarray(positions), jnp.asarray(segments))


@pytest.fixture
def built(model_config):
  """A function from options to (run, params, x, config)."""

  def make(position="rope", dtype="float32", length=T, **sizes):
    opts = {f"native_sparse.{k}": v for k, v in (SIZES | sizes).items()}
    config = model_config(
      pattern=("native_sparse",),
      position=position,
      opts=opts,
      compute_dtype=dtype,
    )
    x = jax.random.normal(jax.random.key(1), (B, length, D)).astype(dtype)
    module = Alone(config, "native_sparse")
    first = Context(jnp.zeros((B, 1), jnp.int32))
    params = init_params(specs(module, x[:, :1], first), jax.random.key(0))

    @jax.jit
    def run(params, x, ctx, state=None):
      return module.apply({"params": params}, x, ctx, state)

    return run, params, x, config

  return make


@pytest.mark.parametrize(
  ("position", "sizes", "rows"),
  [
    ("rope", {}, ROWS),
    ("rope", {}, ((37,), (37,))),
    ("rope", {"block": 3, "stride": 3, "select_block": 3}, ROWS),
    ("rope", {"block": 2, "stride": 1, "select_block": 3}, ROWS),
    ("none", {"block": 6, "select_block": 2, "n_selected": 6}, ROWS),
  ],
)
def test_it_is_what_the_paper_says(built, position, sizes, rows):
  run, params, x, _ = built(position, **sizes)
  ctx = context(rows)
  got, _ = run(params, x, ctx)
  sizes = SIZES | sizes
  want, picked = by_paper(params["mixer"], x, rows, position == "rope", **sizes)
  real = np.asarray(ctx.segment_ids_BT != 0)
  # fp32: sums of some 30 terms, of numbers of size 1, in another order.
  np.testing.assert_allclose(got[real], want[real], rtol=0, atol=1e-5)
  # There was a choice, and it was not always the first or the last.
  free = [chosen for last, chosen in picked if last > len(chosen)]
  assert len(free) > 20
  for won in ([2 in c for c in free], [c[-1] - 2 in c for c in free]):
    assert any(won) and not all(won)


def test_its_gradients_are_those_of_the_papers_formula(built):
  """Of each parameter and of the input, along a direction drawn at random."""
  rows = ((4, 17), (15,))
  sizes = SIZES | {"block": 2, "stride": 1, "select_block": 2}
  run, params, x, _ = built(length=17, **sizes)
  ctx = context(rows)
  rng = np.random.default_rng(2)
  real = np.asarray(ctx.segment_ids_BT != 0)
  weight = rng.normal(size=x.shape) * real[..., None]

  @jax.jit
  @functools.partial(jax.grad, argnums=(0, 1))
  def gradient(params, x):
    return (run(params, x, ctx)[0] * weight).sum()

  of_params, of_x = gradient(params, x)
  leaves, tree = jax.tree.flatten({**params["mixer"], "x": x})
  leaves = [np.asarray(a, np.float64) for a in leaves]

  def value(leaves):
    p = tree.unflatten(leaves)
    return (by_paper(p, p["x"], rows, **sizes)[0] * weight).sum()

  for i, got in enumerate(jax.tree.leaves({**of_params["mixer"], "x": of_x})):
    direction = rng.normal(size=got.shape)
    steps = (1e-5 * direction, -1e-5 * direction)
    ahead, behind = (
      value([*leaves[:i], leaves[i] + step, *leaves[i + 1 :]]) for step in steps
    )
    size = np.linalg.norm(got) * np.linalg.norm(direction)
    # fp32 gradients, relative to the largest that the product could be.
    off = (np.asarray(got) * direction).sum() - (ahead - behind) / 2e-5
    assert size and abs(off) < 1e-5 * size, i


def test_before_the_first_block_ends_only_tokens_count(built):
  """No compressed block, no NaN: neither forward nor in the gradient."""
  run, params, x, _ = built(length=3)
  ctx = Context(jnp.broadcast_to(jnp.arange(3), (B, 3)))

  @jax.jit
  @jax.grad
  def gradient(params):
    return (run(params, x, ctx)[0] ** 2).sum()

  got, gradients = run(params, x, ctx)[0], gradient(params)["mixer"]
  want, _ = by_paper(params["mixer"], x, ((3,), (3,)), **SIZES)
  np.testing.assert_allclose(got, want, rtol=0, atol=5e-6)  # fp32
  assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))
  assert not np.any(gradients["compressed_v"]["kernel"])
  assert np.any(gradients["selected_v"]["kernel"])


def test_chunks_are_all_at_once_wherever_documents_begin(built):
  """A row that begins with padding, as prompts do; blocks across chunks."""
  run, params, x, config = built()
  ctx = context(((7, T), (T,)))
  padding = jnp.array([[True], [False]]) & (ctx.segment_ids_BT == 1)
  ctx = Context(ctx.positions_BT, jnp.where(padding, 0, ctx.segment_ids_BT))
  state = MIXERS["native_sparse"].init_state(config, B, T)
  outputs, at = [], 0
  for length in (9, 1, 1, 9, 1, 9, 1, 1, 1, 1, 1, 1, 1):
    here = ctx.chunk(at, at + length)
    y, state = run(params, x[:, at : at + length], here, state)
    outputs.append(y)
    at += length
  assert at == T
  got, want = jnp.concatenate(outputs, axis=1), run(params, x, ctx)[0]
  # fp32: sums of some 30 terms, of numbers of size 1, in another order.
  np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)


def test_in_bfloat16_few_tokens_select_other_blocks(built):
  """Where they do not, outputs are those of fp32 but for rounding."""
  run, params, x, _ = built()
  ctx = context(ROWS)
  half, *_ = built(dtype="bfloat16")
  real = np.asarray(ctx.segment_ids_BT != 0)
  want = np.asarray(run(params, x, ctx)[0])[real]
  got, _ = half(params, x.astype(jnp.bfloat16), ctx)
  assert got.dtype == jnp.bfloat16
  off = np.abs(np.asarray(got, np.float32)[real] - want).max(-1)
  # bf16: 2^-8 for each rounding, a handful of them in a row.
  assert np.mean(off < 6e-2 * np.abs(want).max()) > 0.9


@pytest.mark.parametrize(
  ("sizes", "said"),
  [
    ({"block": 0}, r"opts.native_sparse.block=0 must be at least 1"),
    (
      {"block": 5, "stride": 2},
      r"opts.native_sparse.block=5 is not a multiple of stride=2; use a stride",
    ),
    (
      {"select_block": 9, "stride": 2},
      r"opts.native_sparse.select_block=9 is not a multiple of stride=2",
    ),
    ({"n_selected": 2}, r"opts.native_sparse.n_selected=2 must be at least 3"),
  ],
)
def test_sizes_that_do_not_fit_are_refused(built, sizes, said):
  with pytest.raises(UserError, match=said):
    built(**sizes)


def test_a_model_that_looks_ahead_is_refused(built):
  run, params, x, _ = built(length=5)
  ctx = Context(jnp.broadcast_to(jnp.arange(5), (B, 5)), causal=False)
  with pytest.raises(UserError, match=r"mixer='native_sparse' .* looks ahead"):
    run(params, x, ctx)
