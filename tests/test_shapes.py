"""The shipped shapes: published numbers of parameters, planned in seconds."""

import math
import subprocess
import sys

import jax
import pytest

from ablax.models import lm
from ablax.train.config import load

PROVES = ("feature:small", "feature:llama_1b", "feature:llama_7b")


def llama(V, D, L, K, F, tied, head_dim=64):
  """Parameters of a Llama, by hand: embeddings, layers, last norm."""
  layer = 2 * D * D + 2 * D * K * head_dim + 3 * D * F + 2 * D
  return (1 if tied else 2) * V * D + L * layer + D


COUNTS = {
  "tiny": llama(4096, 128, 4, 2, 352, True, head_dim=32),
  "small": llama(16384, 512, 8, 4, 1376, True),
  "llama_1b": 1_235_814_400,  # its model card
  "llama_7b": 6_738_415_616,  # of its released weights
}


@pytest.mark.parametrize("name", COUNTS)
def test_a_shape_has_its_published_number_of_parameters(name):
  config = load(f"configs/lm/{name}.py")
  if not config.model.vocab_size:
    config = config.with_vocab(4096)
  specs = jax.tree.leaves(lm.param_specs(config.model))
  assert sum(math.prod(spec.shape) for spec in specs) == COUNTS[name]


@pytest.mark.slow
def test_a_7b_model_is_planned_without_its_memory():
  command = [sys.executable, "-m", "ablax.train", "--dry-run"]
  done = subprocess.run(
    [*command, "--config=configs/lm/llama_7b.py"],
    capture_output=True,
    text=True,
    check=True,
    timeout=60,
  )
  assert "6.74 G" in done.stdout
