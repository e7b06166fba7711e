"""Every mixer, position, ffn, router and norm in the real job.

Each trains a few updates from configs/lm/tiny.py, resumes to the bit, and
samples the same tokens with the decode state and without; what sees later
tokens is refused there. A few of them under `slow`, the whole registries under
`long`.
"""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_options import small_options

from ablax.data.prepare import fixed_tokenizer
from ablax.errors import UserError
from ablax.infer.sampling import Sampling, generate
from ablax.models import lm
from ablax.models.ffn import FFNS
from ablax.models.mixers import MIXERS
from ablax.models.norms import NORMS
from ablax.models.positions import POSITIONS
from ablax.models.routers import ROUTERS
from ablax.models.state import sees_later
from ablax.train.checkpoint import Checkpoints
from ablax.train.config import load
from ablax.train.logs import read_metrics
from ablax.train.loop import train
from ablax.train.proofs.resume import compare
from ablax.train.setup import provisional_setup

SHORT = {
  "steps": 8,
  "opt.warmup_steps": 2,
  "data.max_bytes": 300_000,
  "data.tokenizer": "bytes",
  "data.heldout_bytes": 10_000,
  "data.seq_len": 48,
  "eval.every": 0,
  "eval.prompts": (),
  "checkpoint.every": 4,
  "checkpoint.keep": 3,
  "log.every": 1,
  "log.progress": False,
  "mesh.data": 1,
}
ALL = {
  f"{registry.key}={name}": {registry.key: name}
  | {f"model.opts.{key}": value for key, value in small_options(name).items()}
  for registry in (MIXERS, POSITIONS, FFNS, NORMS, ROUTERS)
  for name in registry.own
}
MOE = {"model.ffn": "moe"} | {
  f"model.opts.{key}": value for key, value in small_options("moe").items()
}
for name in ROUTERS.own:
  ALL[f"{ROUTERS.key}={name}"] |= MOE
ALL[f"{ROUTERS.key}=switch"]["model.opts.moe.top_k"] = 1
QUICK = (
  *("model.mixer=streaming", "model.mixer=mla"),
  *("model.position=t5", "model.ffn=moe"),
  "model.opts.moe.router=expert_choice",
)


def run_twice(overrides, tmp_path):
  """A run, and another that was killed half-way; gives config and folder."""
  config = load("configs/lm/tiny.py", {**SHORT, **overrides})
  train(config, tmp_path / "alone")
  shutil.copytree(tmp_path / "alone", tmp_path / "killed")
  shutil.rmtree(tmp_path / f"killed/checkpoints/{config.steps}")
  train(config, tmp_path / "killed")
  return config, tmp_path


def without_state(config, params, prompt, n):
  """Greedy, the whole row anew for each token."""

  @jax.jit
  def following(tokens, length):
    logits = lm.apply(config, params, tokens[None]).logits()[0]
    return logits[length - 1].argmax()

  ids, room = list(prompt), len(prompt) + n
  for _ in range(n):
    row = jnp.array(ids + [0] * (room - len(ids)))
    ids.append(int(following(row, len(ids))))
  return ids[len(prompt) :]


def check(config, folder):
  losses = [x["loss"] for x in read_metrics(folder / "alone") if "loss" in x]
  assert len(losses) == config.steps
  assert np.mean(losses[-2:]) < losses[0] - 0.1
  checks = list(compare(folder / "alone", folder / "killed"))
  assert checks and not [check for check in checks if not check.holds]

  setup = provisional_setup(config, jax.devices()[:1])
  checkpoints = Checkpoints(folder / "alone", config.checkpoint)
  state, _ = checkpoints.restore(config.steps, setup.abstract())
  checkpoints.close()
  model, tokenizer = setup.config.model, fixed_tokenizer(config.data)
  prompt = tokenizer.encode("import jax.numpy as")
  settings = Sampling(temperature=0.0, max_tokens=12)
  if sees_later(model):
    with pytest.raises(UserError, match="is not causal, so it can't generate"):
      generate(model, state.params, tokenizer, [prompt], settings)
    return
  (completion,) = generate(model, state.params, tokenizer, [prompt], settings)
  n = len(completion.tokens)
  assert n >= 3
  assert list(completion.tokens) == without_state(
    model, state.params, prompt, n
  )


@pytest.mark.slow  # two real runs each
@pytest.mark.parametrize("name", QUICK)
def test_it_learns_resumes_and_samples(name, cache, tmp_path):
  small = {
    "model.d_model": 32,
    "model.n_layers": 2,
    "model.ff_dim": 48,
    "opt.lr": 1e-2,
  }
  check(*run_twice(small | ALL[name], tmp_path))


@pytest.mark.long  # two runs each of the model of configs/lm/tiny.py
@pytest.mark.parametrize("name", ALL)
def test_all_of_the_registries_do(name, cache, tmp_path):
  check(*run_twice(ALL[name], tmp_path))
