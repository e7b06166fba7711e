"""Dtypes go by device: the table, on devices that are not here."""

from types import SimpleNamespace

import pytest

from ablax.kernels.device import best_dtype, has_fp8


def gpu(capability):
  return SimpleNamespace(platform="gpu", compute_capability=capability)


def tpu(kind):
  return SimpleNamespace(platform="tpu", device_kind=kind)


@pytest.mark.parametrize(
  ("device", "dtype", "fp8"),
  [
    (gpu("7.0"), "float16", False),  # V100
    (gpu("7.5"), "float16", False),  # T4
    (gpu("8.0"), "bfloat16", False),  # A100
    (gpu("8.9"), "bfloat16", True),  # L4
    (gpu("9.0"), "bfloat16", True),  # H100
    (gpu("10.0"), "bfloat16", True),  # B200: not "10.0" < "8.0"
    (gpu("gfx942"), "bfloat16", False),  # MI300's fp8 is another format
    (tpu("TPU v2"), "bfloat16", False),
    (tpu("TPU v5p"), "bfloat16", False),
    (tpu("TPU v6 lite"), "bfloat16", True),
    (tpu("TPU7x"), "bfloat16", True),
    (SimpleNamespace(platform="cpu"), "float32", False),
  ],
)
def test_what_a_device_can_do(device, dtype, fp8):
  assert best_dtype(device) == dtype
  assert has_fp8(device) is fp8


def test_the_default_is_the_first_device_here():
  assert best_dtype() == "float32" and not has_fp8()
