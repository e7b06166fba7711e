"""A run of seconds: 2 layers of width 32 on bytes of a made-up text."""

import math

import numpy as np
import pytest


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


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
  """Prepared data of these tests goes nowhere else."""
  with pytest.MonkeyPatch.context() as patch:
    folder = tmp_path_factory.mktemp("cache")
    patch.setenv("ABLAX_CACHE", str(folder))
    yield folder


SMALL = {
  "steps": 6,
  "model.d_model": 32,
  "model.n_layers": 2,
  "model.n_heads": 4,
  "model.n_kv_heads": 2,
  "model.ff_dim": 48,
  "model.max_len": 64,
  "opt.warmup_steps": 2,
  "data.source": "text",
  "data.tokenizer": "bytes",
  "data.heldout_bytes": 500,
  "data.seq_len": 32,
  "data.batch_size": 8,
  "eval.every": 0,
  "eval.prompts": (),
  "checkpoint.every": 2,
  "log.every": 1,
  "log.progress": False,
  "mesh.data": 1,
}


@pytest.fixture(scope="session")
def overrides(corpus):
  """A function from changes to the overrides of a small run."""
  return lambda **changes: {
    **SMALL,
    "data.opts.text.paths": (str(corpus),),
    **{k.replace("__", "."): v for k, v in changes.items()},
  }


@pytest.fixture(scope="session")
def small(overrides):
  """A function from changes to a resolved small `Config`."""
  from ablax.configs import base
  from ablax.train.config import resolve

  return lambda **changes: resolve(base.get_config(), overrides(**changes))


@pytest.fixture(scope="module", autouse=True)
def enough_devices():
  """A run takes as many of the eight devices as its mesh asks for."""
  from ablax.train import setup

  make = setup.make_mesh

  def fitting(config, devices=None):
    import jax

    sizes = (config.data, config.fsdp, config.tensor)
    n = math.prod(sizes)
    return make(config, devices or (jax.devices()[:n] if n > 0 else None))

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(setup, "make_mesh", fitting)
    yield
