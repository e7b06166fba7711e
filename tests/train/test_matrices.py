"""What is a matrix, and what is done to it: SVD, paper's recurrences, fp64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy
from toy import opt

from ablax.models.lm import param_specs
from ablax.models.param import path_of
from ablax.train.optimizers import make_optimizer
from ablax.train.optimizers.matrices import Matrix, as_matrix, each
from ablax.train.optimizers.muon import orthogonalize
from ablax.train.optimizers.shampoo import Blocks, inverse_root

PROVES = ("optimizer:muon", "optimizer:shampoo", "optimizer:lamb")


def labels(specs):
  """path -> (batch, I, O) of the matrices, and () of what is none."""
  found = {}
  for path, spec in jax.tree_util.tree_flatten_with_path(specs)[0]:
    m = as_matrix(spec)
    found[path_of(path)] = (m.batch, m.n_in, m.n_out) if m else ()
  return found


def test_matrices_of_a_model_are_its_projections_and_tables(model_config):
  config = model_config(use_bias=True, tie_embeddings=False)  # D 24, H 6, F 40
  layer = "groups/0/"
  assert labels(param_specs(config)) == {
    "embedding": ((), 53, 24),
    "unembedding": ((), 24, 53),
    "final_norm/scale": (),
    layer + "mixer_norm/scale": (),
    layer + "ffn_norm/scale": (),
    layer + "mixer/q/kernel": ((2,), 24, 24),
    layer + "mixer/q/bias": (),
    layer + "mixer/k/kernel": ((2,), 24, 12),
    layer + "mixer/k/bias": (),
    layer + "mixer/v/kernel": ((2,), 24, 12),
    layer + "mixer/v/bias": (),
    layer + "mixer/o/kernel": ((2,), 24, 24),
    layer + "mixer/o/bias": (),
    layer + "ffn/gate/kernel": ((2,), 24, 40),
    layer + "ffn/gate/bias": (),
    layer + "ffn/up/kernel": ((2,), 24, 40),
    layer + "ffn/up/bias": (),
    layer + "ffn/down/kernel": ((2,), 40, 24),
    layer + "ffn/down/bias": (),
  }


def test_scanned_and_unrolled_parameters_have_the_same_labels():
  scanned, alone = labels(toy.scanned()), labels(toy.unrolled())
  for i in range(toy.L):
    for name in toy.LAYER:
      stacked = scanned[f"groups/0/{name}"]
      assert alone[f"layer{i}/{name}"] == (stacked and ((), *stacked[1:]))
      assert not stacked or stacked[0] == (toy.L,)
  # optax's Muon goes by ndim == 2: it would take these scales and no kernel.
  assert scanned["groups/0/scale"] == ()


def test_a_matrix_of_one_column_is_a_vector():
  assert as_matrix(toy.spec((7, 1), ("embed", "heads"), ("in", "out"))) is None


def test_folding_puts_batch_axes_first_and_is_undone():
  spec = toy.spec(
    (2, 3, 4, 5, 6),
    ("embed", "layers", "heads", "ff", "head_dim"),
    ("in", "batch", "out", "in", "out"),
  )
  matrix = Matrix(spec)
  a = jnp.arange(720.0).reshape(spec.shape)
  m = matrix.fold(a)
  np.testing.assert_array_equal(
    m, jnp.einsum("iblro->birlo", a).reshape(3, 10, 24)
  )
  np.testing.assert_array_equal(matrix.unfold(m), a)


@pytest.mark.parametrize("decompose", [jnp.linalg.qr, jnp.linalg.eigh])
def test_lapack_gets_one_matrix_at_a_time_and_all_come_back(decompose):
  m = np.random.default_rng(0).standard_normal((2, 3, 8, 8))
  m = jnp.asarray(m + m.swapaxes(-1, -2), jnp.float32)
  run = jax.jit(lambda m: each(decompose, m))
  calls = [x for x in run.lower(m).as_text().splitlines() if "lapack_" in x]
  assert calls and all("6x8x8" not in call for call in calls)
  for got, want in zip(run(m), jax.jit(decompose)(m), strict=True):
    np.testing.assert_array_equal(got, want)


# Muon.


@pytest.mark.parametrize("shape", [(3, 5, 9), (2, 9, 5), (6, 6)])
def test_orthogonalising_keeps_singular_vectors_and_evens_the_values(shape):
  m = np.random.default_rng(0).standard_normal(shape)
  u, _, vt = np.linalg.svd(m, full_matrices=False)
  got = np.asarray(orthogonalize(jnp.asarray(m, jnp.float32), 5), np.float64)
  core = np.swapaxes(u, -1, -2) @ got @ np.swapaxes(vt, -1, -2)
  values = np.diagonal(core, axis1=-2, axis2=-1)
  off = core - values[..., None] * np.eye(values.shape[-1])
  # Rounding of fp32 times 3.4^5, by which small singular values grow.
  assert np.abs(off).max() < 1e-4
  assert values.min() > 0.65 and values.max() < 1.25


def test_muon_moves_by_the_scale_of_its_variant():
  spec = toy.spec((5, 7), ("embed", "ff"), ("in", "out"))
  params = {"kernel": jnp.zeros((5, 7))}
  grads = toy.draw({"kernel": spec}, 1)
  for scale, want in (
    ("match_rms", 0.2 * 7**0.5),
    ("original", (7 / 5) ** 0.5),
  ):
    optimizer = make_optimizer(
      opt("muon", lr=1.0, muon__scale=scale), lambda _: 1.0, {"kernel": spec}
    )
    state = optimizer.init(params)
    updates, _ = optimizer.update(grads, state, params, count=jnp.int32(0))
    length = float(np.linalg.norm(updates["kernel"], 2))
    assert 0.65 * want < length < 1.25 * want


def test_adam_factor_is_of_what_is_no_matrix():
  specs = toy.scanned()
  params, grads = toy.draw(specs, 0), toy.draw(specs, 1)
  updates = {}
  for factor in (1.0, 0.5):
    optimizer = make_optimizer(
      opt("muon", muon__adam_factor=factor), lambda _: 1.0, specs
    )
    state = optimizer.init(params)
    updates[factor], _ = optimizer.update(
      grads, state, params, count=jnp.int32(0)
    )
  for path, spec in jax.tree_util.tree_flatten_with_path(specs)[0]:
    name = path_of(path)
    here, there = (
      functools.reduce(lambda t, k: t[k], name.split("/"), updates[f])
      for f in (0.5, 1.0)
    )
    matrix = spec.roles and name != "embedding"
    np.testing.assert_allclose(here, (1.0 if matrix else 0.5) * there)


# Shampoo.


def test_blocks_are_cut_and_joined_whatever_the_sizes():
  a = jnp.arange(2 * 7 * 10.0).reshape(2, 7, 10)
  for max_dim, shape in (
    (3, (3, 4, 3, 3)),
    (7, (1, 2, 7, 5)),
    (99, (1, 1, 7, 10)),
  ):
    blocks = Blocks(7, 10, max_dim)
    assert blocks.shape == shape
    cut = blocks.cut(a)
    assert cut.shape == (2, *shape)
    np.testing.assert_array_equal(blocks.join(cut), a)
    np.testing.assert_array_equal(cut[:, 0, 0], a[:, : shape[2], : shape[3]])


def test_the_inverse_root_is_one():
  a = np.random.default_rng(0).standard_normal((3, 6, 6))
  a = a @ a.swapaxes(-1, -2)
  root = np.asarray(inverse_root(jnp.asarray(a, jnp.float32), 1e-3), np.float64)
  largest = np.linalg.eigvalsh(a).max(-1)[:, None, None]
  product = root @ root @ root @ root @ (a + 1e-3 * largest * np.eye(6))
  # Conditions up to 1e3, rounding of fp32.
  np.testing.assert_allclose(
    product, np.broadcast_to(np.eye(6), a.shape), atol=1e-3
  )


def shampoo_in_float64(x, grads, lr, o, max_dim):
  """Anil et al. 2020 with Adam's norm, one matrix, written block by block."""
  rows = np.array_split(np.arange(x.shape[0]), -(-x.shape[0] // max_dim))
  columns = np.array_split(np.arange(x.shape[1]), -(-x.shape[1] // max_dim))
  grid = [np.ix_(r, c) for r in rows for c in columns]
  stats = [[0.0, 0.0] for _ in grid]
  roots = [[0.0, 0.0] for _ in grid]
  m = v = 0.0
  for t, g in enumerate(grads, 1):
    m = o.b1 * m + (1 - o.b1) * g
    v = o.b2 * v + (1 - o.b2) * g**2
    m_hat = m / (1 - o.b1**t)
    adam = m_hat / (np.sqrt(v / (1 - o.b2**t)) + 1e-8)
    p = np.zeros_like(x)
    for i, block in enumerate(grid):
      for side, outer in enumerate(
        (g[block] @ g[block].T, g[block].T @ g[block])
      ):
        stats[i][side] = o.b2 * stats[i][side] + (1 - o.b2) * outer
        if (t - 1) % o.every == 0:
          a = stats[i][side] / (1 - o.b2**t)
          w, q = np.linalg.eigh(a)
          roots[i][side] = q @ np.diag((w + o.eps * w.max()) ** -0.25) @ q.T
      p[block] = roots[i][0] @ m_hat[block] @ roots[i][1]
    x = x - lr * p * np.linalg.norm(adam) / np.linalg.norm(p)
  return x


@pytest.mark.parametrize("max_dim", [3, 99])
def test_shampoo_is_the_recurrence_of_its_paper(max_dim):
  config = opt(
    "shampoo",
    lr=0.1,
    shampoo__every=3,
    shampoo__max_dim=max_dim,
    shampoo__eps=1e-2,
  )
  # 6 x 6, so that blocks of 3 need no padding; the layers are two matrices.
  spec = toy.spec(
    (2, 6, 2, 3),
    ("layers", "embed", "heads", "head_dim"),
    ("batch", "in", "out", "out"),
  )
  rng = np.random.default_rng(0)
  x, grads = rng.standard_normal((2, 6, 6)), rng.standard_normal((20, 2, 6, 6))
  params = {"kernel": jnp.asarray(x.reshape(spec.shape), jnp.float32)}
  optimizer = make_optimizer(config, lambda _: 0.1, {"kernel": spec})
  state, update = optimizer.init(params), jax.jit(optimizer.update)
  for count, g in enumerate(grads):
    g = {"kernel": jnp.asarray(g.reshape(spec.shape), jnp.float32)}
    updates, state = update(g, state, params, count=jnp.int32(count))
    params = optax.apply_updates(params, updates)
  o = config.opts["shampoo"]
  want = [
    shampoo_in_float64(x[i], grads[:, i], 0.1, o, max_dim) for i in range(2)
  ]
  # 20 updates of fp32 roots, of conditions up to 100.
  np.testing.assert_allclose(params["kernel"].reshape(2, 6, 6), want, atol=2e-5)


# LAMB.


def test_lamb_is_the_recurrence_of_its_paper_for_each_layer():
  config = opt("lamb", lr=0.1, weight_decay=0.2, decay_rules=((".*", 1.0),))
  specs = {"scale": toy.spec((2, 5), ("layers", "norm"), ())}
  rng = np.random.default_rng(0)
  # Layers of another size, and one that begins at 0.
  x = rng.standard_normal((2, 5)) * np.array([[3.0], [0.0]])
  grads = rng.standard_normal((20, 2, 5))
  params = {"scale": jnp.asarray(x, jnp.float32)}
  optimizer = make_optimizer(config, lambda _: 0.1, specs)
  state, update = optimizer.init(params), jax.jit(optimizer.update)
  for count, g in enumerate(grads):
    g = {"scale": jnp.asarray(g, jnp.float32)}
    updates, state = update(g, state, params, count=jnp.int32(count))
    params = optax.apply_updates(params, updates)
  for layer in range(2):
    w, m, v = x[layer], 0.0, 0.0
    for t, g in enumerate(grads[:, layer], 1):
      m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
      u = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-6) + 0.2 * w
      size = np.linalg.norm(w)
      w = w - 0.1 * (size / np.linalg.norm(u) if size else 1) * u
    # 20 updates in fp32.
    np.testing.assert_allclose(params["scale"][layer], w, rtol=2e-5)
