"""Compiled programs are found again by a second process."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]

STEP = """
import json, pathlib, sys
import jax
from jax import monitoring

counts = {}
monitoring.register_event_listener(
  lambda event, **_: counts.update({event: counts.get(event, 0) + 1})
)
from ablax.train.accounting import abstract_batch
from ablax.train.compile_cache import use_compile_cache
from ablax.train.config import from_dict
from ablax.train.setup import make_setup
from ablax.train.step import make_train_step

use_compile_cache(pathlib.Path(sys.argv[1]))
setup = make_setup(from_dict(json.loads(sys.argv[2])), jax.devices()[:1])
make_train_step(setup).lower(setup.abstract(), abstract_batch(8, 32)).compile()
found = [counts.get(f"/jax/compilation_cache/cache_{w}", 0)
         for w in ("hits", "misses")]
print(json.dumps(found))
"""


@pytest.mark.slow
def test_a_second_process_compiles_no_update_of_the_same_shape(small, tmp_path):
  def run(**changes):
    config = small(model__vocab_size=64, model__n_layers=1, **changes)
    done = subprocess.run(
      [sys.executable, "-c", STEP, tmp_path, json.dumps(config.as_dict())],
      env=os.environ | {"PYTHONPATH": str(ROOT)},
      stdout=subprocess.PIPE,
      text=True,
      check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])

  hits, misses = run()
  assert misses >= 1
  hits_again, misses_again = run()
  assert misses_again == 0 and hits_again == hits + misses
  # A seed is in the state; a learning rate is in the program.
  assert run(seed=3, data__seed=4)[1] == 0
  assert run(opt__lr=2e-3)[1] == 1
