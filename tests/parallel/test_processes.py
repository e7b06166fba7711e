"""Two processes train as one: same rows, same weights, same losses.

Each has four CPU devices; they speak over Gloo.
"""

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
STEPS = 3
EXAMPLES = 8

# Arguments: JSON of the overrides, then of {process, n_processes, port}.
SCRIPT = """
import json, os, sys

overrides, where = json.loads(sys.argv[1]), json.loads(sys.argv[2])
n_devices = 8 // where["n_processes"]
os.environ["XLA_FLAGS"] = (
  f"--xla_force_host_platform_device_count={n_devices}"
  " --xla_backend_optimization_level=0"
)
import jax

if where["n_processes"] > 1:
  jax.config.update("jax_cpu_collectives_implementation", "gloo")
  jax.distributed.initialize(
    f"localhost:{where['port']}",
    num_processes=where["n_processes"],
    process_id=where["process"],
    initialization_timeout=60,
  )
assert jax.device_count() == 8 and jax.local_device_count() == n_devices

from ablax.configs import base
from ablax.data.pipeline import train_batches
from ablax.data.prepare import prepare
from ablax.train.config import resolve
from ablax.train.evaluate import to_device
from ablax.train.setup import make_setup
from ablax.train.state import fingerprints
from ablax.train.step import batch_shardings, make_train_step

config = resolve(base.get_config(), overrides)
prepared = prepare(config.data, progress=False)
setup = make_setup(config.with_vocab(320))
shardings = batch_shardings(setup.layout)
shard = {"shard": jax.process_index(), "n_shards": jax.process_count()}
batches = train_batches(prepared, config.data, **shard)
state, train_step = setup.init(), make_train_step(setup)
weights = fingerprints(state.params)
losses, norms, rows = [], [], []
for _ in range(config.steps):
  batch = next(batches)
  state, metrics = train_step(state, to_device(batch, shardings))
  losses.append(float(metrics["loss"]))
  norms.append(float(metrics["grad_norm"]))
  rows.append(batch["row"].tolist())
print("RESULT", json.dumps([weights, losses, norms, rows]))
"""


def free_port() -> int:
  with socket.socket() as s:
    s.bind(("localhost", 0))
    return s.getsockname()[1]


def train(overrides, n_processes, cache):
  """Returns what each process prints, or the errors of those that fail."""
  port = free_port()
  env = {
    "PATH": os.environ["PATH"],
    "HOME": os.environ.get("HOME", "/"),
    "ABLAX_CACHE": str(cache),
    "JAX_PLATFORMS": "cpu",
    "PYTHONPATH": str(ROOT),
  }
  processes = []
  try:
    for i in range(n_processes):
      where = {"process": i, "n_processes": n_processes, "port": port}
      words = [json.dumps(overrides), json.dumps(where)]
      processes.append(
        subprocess.Popen(
          [sys.executable, "-c", SCRIPT, *words],
          env=env,
          text=True,
          stdout=subprocess.PIPE,
          stderr=subprocess.PIPE,
        )
      )
    results = []
    for process in processes:
      out, err = process.communicate(timeout=300)
      line = next((s for s in out.splitlines() if s.startswith("RESULT")), "")
      results.append(json.loads(line.removeprefix("RESULT") or "null") or err)
    return results
  finally:
    for process in processes:
      process.kill()


@pytest.fixture(scope="module")
def overrides(tmp_path_factory):
  folder = tmp_path_factory.mktemp("corpus")
  rng = np.random.default_rng(0)
  words = ["the", "model", "reads", "one", "token", "and", "then", "another"]
  for i in range(40):
    text = f"document {i}: {' '.join(rng.choice(words, 3 + i))}\n"
    (folder / f"{i:02}.txt").write_text(text)
  return {
    "steps": STEPS,
    "model.d_model": 16,
    "model.n_layers": 2,
    "model.n_heads": 8,
    "model.ff_dim": 32,
    "model.dropout": 0.1,
    "model.max_len": 24,
    "data.source": "text",
    "data.opts.text.paths": (str(folder),),
    "data.tokenizer": "bytes",
    "data.seq_len": 24,
    "data.batch_size": EXAMPLES,
    "data.heldout_bytes": 500,
    "data.prefetch": 1,
    "opt.lr": 1e-2,
  }


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
  return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def alone(overrides, cache):
  (result,) = train(overrides, 1, cache)
  assert not isinstance(result, str), result[-4000:]
  return result


@pytest.mark.slow
@pytest.mark.parametrize(
  "mesh", [{"data": 4, "fsdp": 2}, {"data": 1, "fsdp": 8}], ids=str
)
def test_two_processes_train_as_one(overrides, cache, alone, mesh):
  mesh = {f"mesh.{axis}": n for axis, n in mesh.items()}
  first, second = train(overrides | mesh, 2, cache)
  assert not isinstance(first, str), first[-4000:]
  assert not isinstance(second, str), second[-4000:]
  weights, losses, norms, rows = alone
  assert first[:3] == second[:3]
  assert first[0] == weights
  joined = [a + b for a, b in zip(first[3], second[3], strict=True)]
  assert joined == rows
  assert len({row for step in rows for row in step}) == STEPS * EXAMPLES
  # fp32 sums over devices in another order, and three updates of AdamW, which
  # divides by a root: 1e-6 of a loss of 5, ten times that of a norm.
  np.testing.assert_allclose(first[1], losses, rtol=3e-6)
  np.testing.assert_allclose(first[2], norms, rtol=3e-5)


@pytest.mark.slow
def test_a_row_that_two_hosts_would_hold_is_refused(overrides, cache):
  mesh = {"mesh.data": 1, "mesh.tensor": 8}
  for err in train(overrides | mesh, 2, cache):
    assert isinstance(err, str)
    assert "puts each row of the batch on several hosts" in err
    assert "make mesh.data * mesh.fsdp a multiple of the 2 hosts" in err
