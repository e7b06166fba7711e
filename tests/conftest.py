"""Eight devices on the CPU, and shapes checked at run time, in every test."""

import os
import pathlib

# Before jax is imported: it reads this once. Tests compile far more than they
# compute. A light back end halves their time; fusions by way of LLVM alone, and
# not of MLIR, take a third of a train step's compilation (2.9 of 10.4 s).
os.environ["XLA_FLAGS"] = " ".join(
  [
    os.environ.get("XLA_FLAGS", ""),
    "--xla_force_host_platform_device_count=8",
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_use_fusion_emitters=false",
  ]
)

from jaxtyping import install_import_hook

install_import_hook("ablax", "beartype.beartype")

import pytest  # noqa: E402


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
  """Where CI is set, a parity test that is skipped has failed."""
  report = yield
  parity = "parity" in item.path.parts
  if parity and report.skipped and os.environ.get("CI"):
    report.outcome = "failed"
    report.longrepr = f"a parity test may not be skipped: {report.longrepr}"
  return report


# Linux gives a process 65,530 mappings, and every compiled program takes some:
# beyond them LLVM stops with a segmentation fault.
MAPPINGS = pathlib.Path("/proc/self/maps")
MOST_MAPPINGS = 30_000


@pytest.fixture(autouse=True)
def _room_for_programs():
  yield
  if MAPPINGS.exists() and MAPPINGS.read_bytes().count(b"\n") > MOST_MAPPINGS:
    import jax

    jax.clear_caches()


@pytest.fixture(scope="session")
def model_config():
  """A function from overrides to a small, resolved `ModelConfig`."""
  from ablax.configs import base
  from ablax.train.config import resolve

  def make(**overrides):
    tiny = {
      "d_model": 24,
      "n_layers": 2,
      "n_heads": 4,
      "n_kv_heads": 2,
      "ff_dim": 40,
      "vocab_size": 53,
      "max_len": 96,
    }
    opts = overrides.pop("opts", {})
    overrides = {f"model.{k}": v for k, v in (tiny | overrides).items()}
    overrides |= {f"model.opts.{k}": v for k, v in opts.items()}
    overrides["data.seq_len"] = 1
    return resolve(base.get_config(), overrides).model

  return make
