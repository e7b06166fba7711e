"""What the device at hand can compute with: the dtypes that go by device."""

from typing import Any

import jax

# Rates of jax's own table (jax/_src/pallas/mosaic/tpu_info.py); v6e takes fp8
# operands at the speed of bf16.
TPUS_WITH_FP8 = ("TPU v6e", "TPU v6 lite", "TPU7", "TPU7x", "TPU8i")


def _cuda_capability(device: Any) -> float | None:
  """8.9 for an L4; None for what is no NVIDIA GPU."""
  try:
    return float(getattr(device, "compute_capability", None) or "")
  except ValueError:  # AMD's are names, such as gfx942
    return None


def best_dtype(device: Any = None) -> str:
  """What `model.compute_dtype = "auto"` means on a device.

  bfloat16 on a TPU and on GPUs that have it (NVIDIA's from compute capability
  8.0 on, AMD's), float16 on older NVIDIA GPUs such as a T4, float32 elsewhere.

  Args:
    device: default: jax's first.
  """
  device = jax.devices()[0] if device is None else device
  if device.platform == "tpu":
    return "bfloat16"
  if device.platform in ("gpu", "cuda", "rocm"):
    capability = _cuda_capability(device)
    old = capability is not None and capability < 8.0
    return "float16" if old else "bfloat16"
  return "float32"


def has_fp8(device: Any = None) -> bool:
  """Whether its matmuls take float8_e4m3fn and float8_e5m2 operands."""
  device = jax.devices()[0] if device is None else device
  if device.platform == "tpu":
    return device.device_kind in TPUS_WITH_FP8
  capability = _cuda_capability(device)
  return capability is not None and capability >= 8.9
