"""A sweep of seconds, on bytes of a made-up text."""

import textwrap

import jax
import numpy as np
import pytest

BASE = '''
"""A wider model of this kind is better.

Made up for tests.
"""
from ablax.configs import base


def get_config():
  c = base.get_config()
  c.steps = 6
  c.model.d_model = 16
  c.model.n_layers = 1
  c.model.n_heads = 2
  c.model.ff_dim = 16
  c.model.max_len = 32
  c.opt.warmup_steps = 2
  c.data.source = "text"
  c.data.opts.text = {{"paths": ({corpus!r},)}}
  c.data.tokenizer = "bytes"
  c.data.heldout_bytes = 500
  c.data.seq_len = 32
  c.data.batch_size = 4
  c.eval.every = 3
  c.eval.prompts = ()
  c.checkpoint.every = 2
  c.log.every = 1
  c.log.progress = False
  c.mesh.data = -1
  return c


def sweep():
  return {sweep}
'''
ARMS = '{"arms": {"a": {}, "b": {"model.residual": "post"}}, "axes": AXES}'


@pytest.fixture(scope="package", autouse=True)
def cache(tmp_path_factory):
  """Prepared data of these tests goes nowhere else."""
  jax.devices()  # eight, for the other tests of this process
  with pytest.MonkeyPatch.context() as patch:
    folder = tmp_path_factory.mktemp("cache")
    patch.setenv("ABLAX_CACHE", str(folder))
    # What trains is a process of its own: it needs no eight devices.
    light = "--xla_backend_optimization_level=0"
    patch.setenv("XLA_FLAGS", f"{light} --xla_cpu_use_fusion_emitters=false")
    patch.setenv("JAX_PLATFORMS", "cpu")
    yield folder


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
  """A folder of 40 short documents of pseudo-English."""
  folder = tmp_path_factory.mktemp("corpus")
  rng = np.random.default_rng(0)
  words = [*"abcdefg", "model", "data", "loss", "not", "数", "é"]
  for i in range(40):
    text = " ".join(rng.choice(words, size=int(rng.integers(20, 90))))
    (folder / f"{i:02}.txt").write_text(text, encoding="utf-8")
  return folder


@pytest.fixture(scope="session")
def config_file(corpus, tmp_path_factory):
  """A function from the text of a sweep to a config file that has it."""

  def write(sweep=ARMS, name="made_up"):
    file = tmp_path_factory.mktemp("configs") / f"{name}.py"
    sweep = sweep.replace("AXES", '("model.residual",)')
    text = textwrap.dedent(BASE).format(corpus=str(corpus), sweep=sweep)
    file.write_text(text.lstrip())
    return str(file)

  return write
