"""What this machine has for training: cores, memory, accelerators."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

_PROBE = """
import json, jax
devices = jax.local_devices()
stats = devices[0].memory_stats() or {}
print(json.dumps({
  "platform": devices[0].platform,
  "device_memory": stats.get("bytes_limit", 0),
}))
"""
# Of NVIDIA, AMD and TPUs: without one there is nothing to ask jax for.
_ACCELERATORS = ("nvidia[0-9]*", "kfd", "accel*", "vfio/[0-9]*")
# A process with jax, its compiler and its data, before any array.
_BASE_BYTES = 700_000_000


@dataclasses.dataclass(frozen=True)
class Machine:
  """Attributes:
  platform: of jax's devices: cpu, gpu or tpu.
  cores: that this process may use, by number.
  memory: bytes that are free.
  device_memory: of one accelerator; 0 on a CPU.
  """

  platform: str
  cores: tuple[int, ...]
  memory: int
  device_memory: int

  def jobs(self, asked: int, needs: int, n_jobs: int) -> int:
    """Processes at a time: an accelerator is one process's alone.

    On a CPU each has a share of the cores: two small runs on a core each train
    1.5 times as much as one after another on both.

    Args:
      asked: 0: as many as fit.
      needs: bytes of the largest run.
      n_jobs: that there are.
    """
    if self.platform != "cpu":
      return 1
    fit = int(0.8 * self.memory) // (needs + _BASE_BYTES)
    return max(1, min(asked or len(self.cores), len(self.cores), fit, n_jobs))

  def split(self, jobs: int, each: int) -> list[tuple[int, ...]]:
    """The cores of each process; none to keep to beside an accelerator.

    Args:
      each: how many the sweep was begun with.
    """
    if self.platform != "cpu":
      return [()]
    jobs = max(1, min(jobs, len(self.cores) // each))
    return [self.cores[i * each : (i + 1) * each] for i in range(jobs)]

  def together(self, asked: int, needs: int, n_seeds: int) -> int:
    """Seeds in one program.

    Args:
      asked: 0: as many as an accelerator holds; one on a CPU, where processes
        do better (benchmarks/vmapped_seeds.py).
      needs: bytes of the largest run.
    """
    if asked:
      return min(asked, n_seeds)
    if self.platform == "cpu":
      return 1
    return max(1, min(n_seeds, int(0.6 * self.device_memory) // max(needs, 1)))


def machine() -> Machine:
  """Looks, with jax in a process of its own, so as to hold no device."""
  found = {"platform": "cpu", "device_memory": 0}
  devices = pathlib.Path("/dev")
  seen = any(any(devices.glob(name)) for name in _ACCELERATORS)
  if seen and os.environ.get("JAX_PLATFORMS") != "cpu":
    done = subprocess.run(
      [sys.executable, "-c", _PROBE], capture_output=True, text=True
    )
    if done.returncode == 0:
      found = json.loads(done.stdout.splitlines()[-1])
  if hasattr(os, "sched_getaffinity"):
    cores = tuple(sorted(os.sched_getaffinity(0)))
  else:
    cores = tuple(range(os.cpu_count() or 1))
  return Machine(cores=cores, memory=_free_memory(), **found)


def _free_memory() -> int:
  try:
    lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
    line = next(x for x in lines if x.startswith("MemAvailable"))
    return int(line.split()[1]) * 1024
  except (OSError, StopIteration):
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
