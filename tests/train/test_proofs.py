"""Each proof holds on a small config, and fails where its claim is broken."""

import json

import pytest

from ablax.models.mixers import MIXERS
from ablax.train.proofs import PROOFS, find


def outcomes(name, config, **arguments):
  checks = list(find(name)(config, **arguments))
  assert checks
  return {check.claim: check.holds for check in checks}


def failures(name, config, **arguments):
  return [
    k for k, holds in outcomes(name, config, **arguments).items() if not holds
  ]


@pytest.fixture
def plugin(tmp_path):
  """A function from source text to the path of a plugin."""

  def write(text, name="plugin"):
    file = tmp_path / f"{name}.py"
    file.write_text(text)
    return str(file)

  return write


@pytest.mark.parametrize(
  "name", [p for p in PROOFS if p not in ("mup", "resume")]
)
def test_each_proof_holds(name, small):
  assert failures(name, small()) == []


LEAKY = """'''Averages over the whole row, future included (nobody 2026).'''
import flax.linen as nn
import jax.numpy as jnp
from ablax.models.linear import Projection
from ablax.models.mixers import MIXERS
from ablax.models.mixers.attention import Attention


@MIXERS.register("leaky_{tag}")
class Leaky(Attention):
  causal = {causal}
  batch_dependent = {batch_dependent}

  @nn.compact
  def __call__(self, x_BTD, ctx, state=None):
    y_BTD, state = super().__call__(x_BTD, ctx, state)
    return y_BTD + {leak}, state
"""


def leaky(plugin, small, tag, leak, causal=True, batch_dependent=False):
  text = LEAKY.format(
    tag=tag, leak=leak, causal=causal, batch_dependent=batch_dependent
  )
  path = plugin(text, f"leaky_{tag}")
  return small(plugins=(path,), model__mixer=f"leaky_{tag}")


def test_a_look_at_the_future_fails_causal_and_mixer(plugin, small):
  # A thousandth of the row's mean: far too little to see in a loss.
  leak = "1e-3 * x_BTD.mean(1, keepdims=True)"
  config = leaky(plugin, small, "future", leak)
  assert "no position sees a later one" in failures("causal", config)
  strong = leaky(plugin, small, "strong", "1e-2 * x_BTD.mean(1, keepdims=True)")
  found = failures("mixer", strong)
  assert any("causal" in claim for claim in found)
  assert any("one token at a time" in claim for claim in found)


def test_a_look_at_another_document_fails_causal_and_mixer(plugin, small):
  leak = "1e-2 * jnp.roll(x_BTD, 1, axis=1).at[:, 0].set(0)"
  config = leaky(plugin, small, "document", leak)
  found = failures("causal", config)
  assert found == ["no position sees another document, or padding"]
  found = failures("mixer", config)
  assert any("packed documents do not see each other" in c for c in found)


def test_a_look_at_another_example_fails_unless_it_is_declared(plugin, small):
  leak = "1e-2 * jnp.roll(x_BTD, 1, axis=0)"
  hidden = leaky(plugin, small, "hidden", leak)
  wanted = "leaky_hidden: an example does not depend on the others"
  assert wanted in failures("mixer", hidden)
  said = leaky(plugin, small, "said", leak, batch_dependent=True)
  assert outcomes("mixer", said)[
    "leaky_said: declared to depend on the batch, and it does"
  ]


def test_a_false_declaration_fails(plugin, small):
  config = leaky(plugin, small, "false", "0.0", causal=False)
  assert "leaky_false: declared not causal, and it is not" in (
    failures("mixer", config)
  )
  assert "what is declared not causal sees later positions" in (
    failures("causal", config)
  )


def test_a_choice_that_looks_ahead_fails_though_it_has_no_gradient(
  plugin, small
):
  leak = "1e-2 * (x_BTD.sum((1, 2), keepdims=True) > 0)"
  config = leaky(plugin, small, "choice", leak)
  assert failures("causal", config) == [
    "no position sees a later one",
    "no position sees another document, or padding",
  ]


@pytest.mark.parametrize("router", ["softmax", "expert_choice"])
def test_a_router_sees_what_it_declares(small, router):
  config = small(
    model__ffn="moe",
    model__opts__moe__n_experts=4,
    model__opts__moe__router=router,
  )
  found = outcomes("causal", config)
  assert all(found.values())
  declared = "documents of a row compete where that is declared"
  assert (declared in found) == (router == "expert_choice")


def test_a_wrong_size_of_the_state_fails(small, monkeypatch):
  entry = MIXERS["attention"]
  real = entry.state_numbers
  monkeypatch.setattr(
    entry, "state_numbers", staticmethod(lambda c, n: real(c, n) - 1)
  )
  assert failures("mixer", small()) == [
    "attention: the decode state is as large as documented"
  ]


MEAN = """'''Means of microbatches, averaged (nobody 2026).'''
import jax.numpy as jnp
from ablax.train.objectives import OBJECTIVES, Loss
from ablax.train.objectives.next_token import NextToken


@OBJECTIVES.register("mean")
class Mean(NextToken):

  def __call__(self, apply, params, batch, key):
    loss = super().__call__(apply, params, batch, key)
    return Loss(loss.sum / loss.weight, jnp.float32(1), loss.metrics)
"""


def test_means_of_microbatches_fail_accumulate(plugin, small):
  config = small(plugins=(plugin(MEAN, "mean"),), objective__name="mean")
  assert "gradient of 4 microbatches = that of one batch" in (
    failures("accumulate", config)
  )


def test_an_order_that_depends_on_the_shards_fails_data(small, monkeypatch):
  from ablax.train.proofs import data

  real = data.train_batches

  def strided(prepared, config, *, shard=0, n_shards=1):
    # Every n-th batch for each shard: a common way, and another order.
    stream = real(prepared, config, shard=0, n_shards=1)
    part = config.batch_size // n_shards

    class Strided:
      def __iter__(self):
        return self

      def __next__(self):
        batches = [next(stream) for _ in range(n_shards)]
        return {k: v[:part] for k, v in batches[shard].items()}

      def restore(self, state):
        stream.restore(state)

      def state(self):
        return stream.state()

    return Strided()

  monkeypatch.setattr(data, "train_batches", strided)
  found = failures("data", small())
  assert "2 shards: the same global batches" in found


def test_a_dropped_row_fails_data(small, monkeypatch):
  from ablax.train.proofs import data

  real = data.train_batches

  def dropping(*args, **kwargs):
    stream = real(*args, **kwargs)
    next(stream)
    return stream

  # The order agrees with itself; only the epoch is short of rows.
  monkeypatch.setattr(data, "train_batches", dropping)
  missed = failures("data", small())
  assert "an epoch of text has every row exactly once" in missed


def test_a_mixture_is_proven_source_by_source(small, corpus, tmp_path):
  for i in range(30):
    (tmp_path / f"{i}.txt").write_text(f"{i} and more of it\n" * 20)
  names = [f"text:{folder}" for folder in (corpus, tmp_path)]
  config = small(
    data__source="",
    data__mixture=tuple(
      (name, w, 0.0) for name, w in zip(names, (3.0, 1.0), strict=True)
    ),
    data__opts__text__paths=(),
  )
  found = outcomes("data", config)
  assert all(found.values())
  claims = [claim for claim in found if claim.startswith("an epoch of text:")]
  assert len(claims) == 2


def test_one_different_bit_fails_resume(small, tmp_path):
  """The comparison itself, without processes: two runs and a changed one."""
  from ablax.train.loop import train
  from ablax.train.proofs.resume import compare

  train(small(steps=2), tmp_path / "a")
  train(small(steps=2), tmp_path / "b")
  train(small(steps=2, seed=1), tmp_path / "c")
  assert all(c.holds for c in compare(tmp_path / "a", tmp_path / "b"))
  wrong = {
    c.claim for c in compare(tmp_path / "a", tmp_path / "c") if not c.holds
  }
  assert {"params: the same bits", "opt_state: the same bits"} <= wrong
  lines = (tmp_path / "b/metrics.jsonl").read_text().splitlines()
  changed = [json.loads(line) for line in lines]
  changed[0]["batch"] = "00000000"
  text = "\n".join(json.dumps(line) for line in changed)
  (tmp_path / "b/metrics.jsonl").write_text(text)
  wrong = {
    c.claim for c in compare(tmp_path / "a", tmp_path / "b") if not c.holds
  }
  assert "the data came in the same order" in wrong


@pytest.fixture
def children(monkeypatch):
  """Processes of their own have one device, as the small config asks for."""
  flag = "--xla_force_host_platform_device_count=1"
  monkeypatch.setenv("XLA_FLAGS", flag)


def test_a_short_proof_of_resuming_still_takes_snapshots(small, monkeypatch):
  from ablax.train.config import load
  from ablax.train.proofs import resume

  seen = []

  def start(file, workdir):
    seen.append(load(str(file)))
    raise resume.Failed("seen enough")

  monkeypatch.setattr(resume, "_start", start)
  config = small(steps=100, opt__average="latest")
  list(resume.prove(config, steps=4))
  assert seen[0].steps == 4 and seen[0].opt.opts["latest"].every == 4


@pytest.mark.slow  # three processes that each start and compile
def test_a_killed_run_ends_in_the_same_bits(small, children):
  assert failures("resume", small(), steps=8, kills=1) == []


@pytest.mark.long  # twelve processes
def test_ten_random_kills_in_a_row_end_in_the_same_bits(small, children):
  assert failures("resume", small(), steps=30, kills=10) == []


FORGETFUL = """'''An optimizer whose noise is in no checkpoint (nobody 2026).'''
import os
import jax
import jax.numpy as jnp
import optax
from ablax.train.optimizers import OPTIMIZERS

SALT = int.from_bytes(os.urandom(2), "little")


@OPTIMIZERS.register("forgetful")
def forgetful(options, specs):
  def update(updates, state, params=None):
    return jax.tree.map(lambda u: u * (1 + 1e-6 * SALT), updates), state
  return optax.GradientTransformation(lambda params: (), update)
"""


@pytest.mark.slow  # as above
def test_a_state_outside_the_checkpoint_fails_resume(plugin, small, children):
  config = small(
    plugins=(plugin(FORGETFUL, "forgetful"),), opt__name="forgetful"
  )
  assert "params: the same bits" in failures("resume", config, steps=8)


def test_the_command_exits_with_1_where_a_property_fails(
  plugin, small, tmp_path
):
  from ablax.prove import main

  config = leaky(plugin, small, "command", "x_BTD.mean(1, keepdims=True)")
  file = tmp_path / "config.json"
  file.write_text(json.dumps({"config": config.as_dict()}))
  assert main(["causal", f"--config={file}"]) == 1
  good = tmp_path / "good.json"
  good.write_text(json.dumps({"config": small().as_dict()}))
  assert main(["causal", f"--config={good}"]) == 0
