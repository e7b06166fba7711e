"""A detailed update: its numbers, by layer, and that it changes nothing."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ablax.errors import UserError
from ablax.models import lm, watch
from ablax.models.block import Block
from ablax.models.context import Context
from ablax.train.accounting import abstract_batch
from ablax.train.checkpoint import load_state
from ablax.train.detail import by_layer, make_detail_step
from ablax.train.evaluate import to_device
from ablax.train.loop import train
from ablax.train.setup import make_setup
from ablax.train.state import fingerprints
from ablax.train.step import (
  batch_shardings,
  loss_and_grads,
  make_objective,
  make_train_step,
)

PROVES = ("feature:detail",)

V = 64


def batch(config):
  """Two documents and padding in each row."""
  rng = np.random.default_rng(1)
  B, T = config.data.batch_size, config.data.seq_len
  segments = np.zeros((B, T), np.int32)
  segments[:, : T - 3] = 2
  segments[:, : T // 2] = 1
  return {
    "tokens": rng.integers(0, V, (B, T), dtype=np.int32),
    "targets": rng.integers(0, V, (B, T), dtype=np.int32),
    "segment_ids": segments,
    "positions": np.broadcast_to(np.arange(T, dtype=np.int32), (B, T)).copy(),
    "weights": (segments > 0).astype(np.float32),
    "example_ids": np.arange(B, dtype=np.int32),
  }


@pytest.fixture(scope="module")
def config(small):
  """Five layers of a pattern of two: a stacked group, and a tail."""
  return small(
    model__vocab_size=V,
    model__n_layers=5,
    model__pattern=("attention", "attention"),
    opt__accum_steps=2,
    opt__clip_norm=0.1,
    opt__warmup_steps=0,
    log__detail=2,
  )


@pytest.fixture(scope="module")
def seen(config):
  """The detail of an update, the state before it and the one after."""
  setup = make_setup(config, jax.devices()[:1])
  state = setup.init()
  before = jax.device_get(state)
  on_device = to_device(batch(config), batch_shardings(setup.layout))
  detail = by_layer(config.model, make_detail_step(setup)(state, on_device))
  after, _ = make_train_step(setup)(state, on_device)
  return detail, before, jax.device_get(after)


def slices(config, tree):
  """name -> array, one for each layer, by counting them off by hand."""
  found = {}
  for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
    keys = [k.key for k in path]
    if keys[0] == "groups":  # layers 0 to 3, even ones at place 0
      for i in range(2):
        layer = 2 * i + int(keys[1])
        found["/".join(["layers", str(layer), *keys[2:]])] = leaf[i]
    elif keys[0] == "tail":
      found["/".join(["layers", "4", *keys[2:]])] = leaf[0]
    else:
      found["/".join(keys)] = leaf
  return found


def norms(config, tree):
  return {
    k: np.linalg.norm(np.asarray(v, np.float64).ravel())
    for k, v in slices(config, tree).items()
  }


def close(got, want, rel):
  assert got.keys() == want.keys()
  for name, value in want.items():
    assert got[name] == pytest.approx(value, rel=rel, abs=1e-12), name


def test_gradient_norms_are_those_before_clipping(config, seen):
  detail, before, _ = seen
  key = jax.random.fold_in(jax.random.wrap_key_data(before.rng), 0)

  def grads(params):
    return loss_and_grads(
      make_objective(config),
      lambda *args, **kwargs: lm.apply(config.model, *args, **kwargs),
      params,
      jax.tree.map(jnp.asarray, batch(config)),
      key,
    )[1]

  # fp32 sums over microbatches in another order.
  close(detail["grad_norm"], norms(config, grads(before.params)), 1e-4)


def test_weights_and_updates_are_those_of_the_real_update(config, seen):
  detail, before, after = seen
  weights = norms(config, before.params)
  close(detail["weight_norm"], weights, 1e-6)
  change = jax.tree.map(
    lambda a, b: np.asarray(a, np.float64) - b, after.params, before.params
  )
  ratios = {k: v / weights[k] for k, v in norms(config, change).items()}
  # Another program: fp32 roundings, which Adam's first step makes visible
  # where a gradient is near its epsilon.
  close(detail["update_ratio"], ratios, 1e-3)
  assert min(ratios.values()) > 0


def test_activations_are_those_of_each_layer_without_padding(config, seen):
  detail, before, _ = seen
  made = {k: v[::2] for k, v in batch(config).items()}  # first microbatch
  ctx = Context(
    jnp.asarray(made["positions"]), jnp.asarray(made["segment_ids"])
  )
  x = jnp.asarray(before.params["embedding"])[made["tokens"]]
  real = made["segment_ids"] != 0
  layers = {}
  for name, leaf in slices(config, before.params).items():
    if name.startswith("layers/"):
      _, layer, *rest = name.split("/")
      node = layers.setdefault(int(layer), {})
      for part in rest[:-1]:
        node = node.setdefault(part, {})
      node[rest[-1]] = jnp.asarray(leaf)
  for layer in range(5):
    x, *_ = Block(config.model, config.model.layers[0]).apply(
      {"params": layers[layer]}, x, ctx, None
    )
    kept = np.asarray(x, np.float64)[real]
    want = {
      "rms": np.sqrt((kept**2).mean()),
      "max_abs": np.abs(kept).max(),
      "zeros": 0.0,
    }
    for statistic, value in want.items():
      got = detail[statistic][f"layers/{layer}/stream"]
      assert got == pytest.approx(value, rel=1e-5)
  assert len(detail["rms"]) == 5 * 3  # mixer_out, ffn_out, stream


def test_statistics_count_zeros_and_leave_out_padding():
  x = jnp.asarray([[[3.0, 0.0], [-4.0, 0.0], [9e4, 0.0]]])
  ctx = Context(jnp.zeros((1, 3), jnp.int32), jnp.asarray([[1, 1, 0]]))
  got = watch.statistics(x, ctx)
  assert float(got["rms"]) == 2.5  # of 3, 0, -4, 0
  assert float(got["max_abs"]) == 4 and float(got["zeros"]) == 0.5


def test_the_usual_step_knows_nothing_of_it(small, monkeypatch):
  """The same program with and without; no statistic is even traced."""
  monkeypatch.setattr(watch, "statistics", None)
  texts = []
  for every in (0, 2):
    config = small(model__vocab_size=V, log__detail=every)
    setup = make_setup(config, jax.devices()[:1])
    shapes = abstract_batch(config.data.batch_size, config.data.seq_len)
    step = make_train_step(setup)
    texts.append(step.lower(setup.abstract(), shapes).as_text())
  assert texts[0] == texts[1]
  with pytest.raises(TypeError):  # while the detail does
    make_detail_step(setup).lower(setup.abstract(), shapes)


def test_a_run_trains_to_the_same_bits_and_leaves_its_detail(small, tmp_path):
  plain, detailed = (
    small(model__dropout=0.1),
    small(model__dropout=0.1, log__detail=2),
  )
  assert plain.hash == detailed.hash
  train(plain, tmp_path / "plain")
  workdir = tmp_path / "detailed"
  train(detailed, workdir)
  one, other = (
    fingerprints(load_state(tmp_path / name)[1])
    for name in ("plain", "detailed")
  )
  assert one == other
  text = (workdir / "detail.jsonl").read_text()
  lines = [json.loads(line) for line in text.splitlines()]
  assert [line["step"] for line in lines] == [2, 4, 6]
  assert set(lines[0]) == {
    *("step", "grad_norm", "weight_norm", "update_ratio"),
    *watch.STATISTICS,
  }
  assert (workdir / "detail.png").read_bytes().startswith(b"\x89PNG")
  assert not (tmp_path / "plain/detail.jsonl").exists()
  assert not (tmp_path / "plain/detail.png").exists()


def test_the_figure_adds_up_tensors_to_layers():
  from ablax.train.figures import _norms, _ratios

  weights = {"layers/1/q": 3.0, "layers/1/k": 4.0, "embedding": 9.0}
  assert _norms(weights) == {1: 5.0}
  line = {
    "weight_norm": weights,
    "update_ratio": {"layers/1/q": 1.0, "layers/1/k": None, "embedding": 1.0},
  }
  assert _ratios(line) == {1: 3.0 / 5.0}


def test_a_negative_interval_is_refused(small):
  with pytest.raises(UserError, match=r"log.detail=-1 must be positive, or 0"):
    small(log__detail=-1)
