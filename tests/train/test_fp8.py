"""Training in fp8, emulated: near float32, and refused where there is none."""

import jax
import numpy as np
import pytest

from ablax.errors import UserError
from ablax.train.accounting import abstract_batch, batch_zeros
from ablax.train.evaluate import to_device
from ablax.train.proofs import find
from ablax.train.setup import make_setup
from ablax.train.step import batch_shardings, make_train_step

FP8 = {"model__matmul": "fp8", "model__opts__fp8__emulate": True}


def losses(config, steps=12):
  """Of updates on one random batch, on as many devices as the mesh has."""
  rng = np.random.default_rng(0)
  B, T = config.data.batch_size, config.data.seq_len
  batch = {k: np.array(v) for k, v in batch_zeros(abstract_batch(B, T)).items()}
  for name in ("tokens", "targets"):
    batch[name] = rng.integers(0, 64, (B, T), dtype=np.int32)
  batch["segment_ids"][:] = 1
  batch["weights"][:] = 1
  batch["positions"][:] = np.arange(T)
  setup = make_setup(config, jax.devices()[: config.mesh.data])
  state, step = setup.init(), make_train_step(setup)
  places, seen = batch_shardings(setup.layout), []
  for _ in range(steps):
    state, metrics = step(state, to_device(batch, places))
    seen.append(float(metrics["loss"]))
  return np.array(seen)


def test_training_in_fp8_follows_float32(small):
  common = {"model__vocab_size": 64, "opt__lr": 1e-3}
  plain = losses(small(**common))
  fp8 = losses(small(**common, **FP8))
  assert plain[-1] < plain[0] - 0.5
  # 3 bits: 6e-2 a rounding, in some ten products that mostly cancel. The loss
  # falls by 0.6 nats meanwhile.
  np.testing.assert_allclose(fp8, plain, rtol=0, atol=0.03)
  assert not np.array_equal(fp8, plain)
  # The largest entry of a tensor is the same on any mesh.
  sharded = losses(small(**common, **FP8, mesh__data=8), 3)
  # fp32 sums in another order; where one crosses a border between two fp8
  # numbers, that one moves by 6e-2.
  np.testing.assert_allclose(sharded, fp8[:3], rtol=2e-4)


def test_a_device_without_fp8_refuses_it_before_any_array(small):
  with pytest.raises(UserError, match=r"model.matmul='fp8' needs .* is cpu"):
    make_setup(small(model__matmul="fp8", model__vocab_size=64))


@pytest.mark.parametrize("name", ["accumulate", "causal", "mixer"])
def test_the_proofs_hold_in_fp8(name, small):
  failed = [c for c in find(name)(small(**FP8)) if not c.holds]
  assert not failed, failed
