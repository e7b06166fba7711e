"""Checkpoints: whole, verified, never silently wrong, never deleted."""

import errno
import os
import shutil
import subprocess

import jax
import numpy as np
import pytest

from ablax.errors import UserError
from ablax.train import checkpoint
from ablax.train.checkpoint import Checkpoints, Damaged, check_space
from ablax.train.namespaces import CheckpointConfig
from ablax.train.setup import make_setup
from ablax.train.state import fingerprints

# A read that fails leaves Orbax's other reads unawaited.
pytestmark = pytest.mark.filterwarnings(
  "ignore::pytest.PytestUnraisableExceptionWarning"
)

KEEP = CheckpointConfig(every=1, keep=2, best="bits_per_byte")


@pytest.fixture(scope="module")
def setup(small):
  return make_setup(small(model__vocab_size=64), jax.devices()[:1])


@pytest.fixture(scope="module")
def state(setup):
  return setup.init()


@pytest.fixture
def saved(tmp_path, state):
  """A workdir with the steps 1, 2 and 3."""
  config = CheckpointConfig(every=1, keep=3, best="bits_per_byte")
  checkpoints = Checkpoints(tmp_path, config)
  for step in (1, 2, 3):
    checkpoints.save(step, state, {"data": {"batches": step}})
  checkpoints.wait()
  yield tmp_path, checkpoints
  checkpoints.close()


def largest_file(folder):
  files = [f for f in (folder / "state").rglob("*") if f.is_file()]
  return max(files, key=lambda f: f.stat().st_size)


def flip_a_bit(file):
  content = bytearray(file.read_bytes())
  content[len(content) // 2] ^= 4
  file.write_bytes(bytes(content))


def truncate(file):
  os.truncate(file, file.stat().st_size // 2)


def test_what_is_restored_is_what_was_saved(saved, setup, state):
  _, checkpoints = saved
  restored, info = checkpoints.restore(2, setup.abstract())
  assert fingerprints(restored) == fingerprints(state)
  assert info["data"] == {"batches": 2}


@pytest.mark.parametrize("damage", [flip_a_bit, truncate, os.unlink])
def test_a_damaged_checkpoint_is_named_kept_and_the_one_before_is_used(
  saved, setup, damage
):
  folder, checkpoints = saved
  damage(largest_file(folder / "checkpoints/3"))
  said = []
  _, info = checkpoints.restore_latest(setup.abstract(), said.append)
  assert info["data"] == {"batches": 2}
  assert len(said) == 1 and str(folder / "checkpoints/3") in said[0]
  assert (folder / "damaged/3/state").is_dir()
  assert checkpoints.steps() == [1, 2]


def test_two_damaged_checkpoints_are_both_passed_over(saved, setup):
  folder, checkpoints = saved
  for step in (2, 3):
    truncate(largest_file(folder / f"checkpoints/{step}"))
  said = []
  _, info = checkpoints.restore_latest(setup.abstract(), said.append)
  assert info["data"] == {"batches": 1} and len(said) == 2


def test_where_no_checkpoint_is_whole_the_run_stops_and_moves_none(
  saved, setup
):
  folder, checkpoints = saved
  for step in (1, 2, 3):
    truncate(largest_file(folder / f"checkpoints/{step}"))
  with pytest.raises(UserError, match=r"no checkpoint of .* can be read"):
    checkpoints.restore_latest(setup.abstract(), print)
  assert checkpoints.steps() == [1, 2, 3]
  assert not (folder / "damaged").exists()


def test_trouble_of_the_machine_is_not_taken_for_damage(
  saved, setup, monkeypatch
):
  _, checkpoints = saved

  def broken(*args, **kwargs):
    raise OSError(errno.EIO, "Input/output error")

  monkeypatch.setattr(checkpoints._manager, "restore", broken)
  with pytest.raises(OSError, match="Input/output error"):
    checkpoints.restore_latest(setup.abstract(), print)
  assert checkpoints.steps() == [1, 2, 3]


def test_checkpoints_that_are_there_count_as_space(saved, setup, monkeypatch):
  folder, _ = saved
  one = sum(
    a.size * a.dtype.itemsize for a in jax.tree.leaves(setup.abstract())
  )
  usage = shutil.disk_usage(folder)._replace(free=2 * one)
  monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
  check_space(folder, setup.abstract(), 2)


def test_a_damaged_step_can_be_saved_again(saved, setup, state):
  folder, checkpoints = saved
  truncate(largest_file(folder / "checkpoints/3"))
  checkpoints.restore_latest(setup.abstract(), lambda text: None)
  checkpoints.save(3, state, {"data": {"batches": 3}})
  checkpoints.wait()
  assert checkpoints.restore(3, setup.abstract())[1]["data"]["batches"] == 3


def test_a_number_changed_behind_orbax_is_noticed(saved, setup, monkeypatch):
  _, checkpoints = saved
  real = fingerprints

  def other(tree):
    hashes = real(tree)
    return hashes | {"params/embedding": "00000000"}

  monkeypatch.setattr(checkpoint, "fingerprints", other)
  with pytest.raises(Damaged, match="params/embedding is not what was written"):
    checkpoints.restore(1, setup.abstract())


def test_a_checkpoint_restores_onto_another_mesh(saved, small, state):
  _, checkpoints = saved
  config = small(model__vocab_size=64, mesh__data=2, mesh__fsdp=4)
  other = make_setup(config, jax.devices())
  restored, _ = checkpoints.restore(1, other.abstract())
  assert fingerprints(restored) == fingerprints(state)
  kernel = restored.params["groups"]["0"]["ffn"]["up"]["kernel"]
  assert kernel.addressable_shards[0].data.size * 4 == kernel.size


def test_the_latest_and_the_best_are_kept(tmp_path, state):
  checkpoints = Checkpoints(tmp_path, KEEP)
  scores = {1: 3.0, 2: 1.0, 3: 2.0, 4: 2.5, 5: None, 6: 4.0}
  for step, score in scores.items():
    metrics = None if score is None else {"bits_per_byte": score}
    checkpoints.save(step, state, {}, metrics)
  checkpoints.wait()
  assert checkpoints.steps() == [2, 5, 6]
  checkpoints.close()


def test_too_little_space_is_said_before_training(tmp_path, setup, monkeypatch):
  usage = shutil.disk_usage(tmp_path)._replace(free=10_000)
  monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
  with pytest.raises(UserError, match=r"keep=2 needs .* MB; free some space"):
    check_space(tmp_path, setup.abstract(), 2)


@pytest.fixture
def tiny_disk(tmp_path):
  """A file system of 200 kB; skips where it may not be mounted."""
  folder = tmp_path / "disk"
  folder.mkdir()
  command = ["mount", "-t", "tmpfs", "-o", "size=200k", "none", str(folder)]
  try:
    done = subprocess.run(command, capture_output=True)
  except FileNotFoundError:
    pytest.skip("no mount program")
  if done.returncode:
    pytest.skip("may not mount a file system")
  yield folder
  subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_named_and_the_checkpoint_before_stays(
  tiny_disk, setup, state
):
  checkpoints = Checkpoints(tiny_disk, KEEP)
  checkpoints.save(1, state, {"data": {"batches": 1}})
  with pytest.raises(OSError) as caught:
    for step in range(2, 9):
      checkpoints.save(step, state, {"data": {"batches": step}})
      checkpoints.wait()
      (tiny_disk / f"filler{step}").write_bytes(b"x" * 30_000)
  assert caught.value.errno == errno.ENOSPC
  fresh = Checkpoints(tiny_disk)
  assert fresh.steps(), "the checkpoints before it are gone"
  restored, _ = fresh.restore(fresh.steps()[-1], setup.abstract())
  assert int(np.asarray(restored.step)) == 0
  fresh.close()
