"""Each task's rows: solvable by what is read, not without, and reproducible."""

import collections
import dataclasses
import itertools
import math
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from drawn import data_of, questions, rows_of
from solvers import SOLVERS

from ablax.configs import base
from ablax.data import pipeline
from ablax.data.prepare import prepare
from ablax.data.tasks import TASKS
from ablax.train.config import resolve

ROOT = pathlib.Path(__file__).resolve().parents[3]
PROVES = (
  "task:mqar",
  "task:in_context_recall",
  "task:fuzzy_recall",
  "task:noisy_recall",
  "task:selective_copying",
  "task:compression",
  "task:memorization",
  "task:induction_heads",
  "task:dyck",
  "task:parity",
  "task:modular_addition",
  "task:needle",
  "task:passkey",
)
# Besides the defaults, what changes the form of a row.
MORE = [
  ("mqar", {"random_filler": False, "power": 1.0, "symbols": 40}),
  ("noisy_recall", {"noise_share": 0.8, "noise_symbols": 3}),
  ("fuzzy_recall", {"key_size": 1, "value_size": 4}),
  ("induction_heads", {"form": "trigger", "symbols": 9}),
  ("induction_heads", {"symbols": 8}),
  ("dyck", {"n_brackets": 2, "depth": 1}),
  ("parity", {"every_prefix": True}),
  ("needle", {"n_needles": 5}),
  ("passkey", {"n_digits": 1, "n_filler": 1}),
]
FORMS = [*((name, {}) for name in TASKS), *MORE]


@pytest.mark.parametrize("seq_len", [64, 65, 91])
@pytest.mark.parametrize(("name", "options"), FORMS)
def test_a_plain_program_answers_every_question(name, options, seq_len):
  data = data_of(name, seq_len, **options)
  learned = {
    read[-2]: answer
    for row in rows_of(data, 40 if name == "memorization" else 0)
    for read, answer in questions(row)
  }
  for seed in (0, None):
    n = 0
    for row in rows_of(data, 12, seed):
      for read, answer in questions(row):
        n += 1
        assert SOLVERS[name](read, data.task_options, learned) == answer
    assert n >= 12


@pytest.mark.parametrize("seq_len", [33, 64])
@pytest.mark.parametrize(("name", "options"), FORMS)
def test_a_row_is_whole_and_asks_in_every_row(name, options, seq_len):
  data = data_of(name, seq_len, **options)
  vocab_size = data.make_task().vocab_size
  for row in [*rows_of(data, 20), *rows_of(data, 20, None)]:
    assert [a.shape for a in row] == [(seq_len,)] * 4
    assert [a.dtype for a in row] == ["int32", "int32", "float32", "int32"]
    assert set(row.weights.tolist()) <= {0.0, 1.0} and row.weights.any()
    real = row.segment_ids > 0
    assert real[: real.sum()].all(), "padding is at the end"
    assert not row.tokens[~real].any() and not row.weights[~real].any()
    assert row.tokens.min() >= 0 and row.tokens.max() < vocab_size
    asked = row.weights > 0
    assert row.targets[asked].min() > 0 and not row.targets[~asked].any()
    assert row.targets.max() < vocab_size


# How many answers there are, of the default options.
ANSWERS = {
  "mqar": 4096,
  "in_context_recall": 8,
  "fuzzy_recall": 8,
  "noisy_recall": 8,
  "selective_copying": 14,
  "compression": 15,
  "memorization": 127,
  "induction_heads": 64,
  "dyck": 8,
  "parity": 2,
  "modular_addition": 97,
  "needle": 16,
  "passkey": 10,
}


@pytest.mark.parametrize("name", list(TASKS))
def test_no_one_answer_is_right_more_often_than_by_chance(name):
  n_rows = 400
  rows = rows_of(data_of(name), n_rows)
  answers = collections.Counter(
    int(target) for row in rows for target in row.targets[row.weights > 0]
  )
  chance = 1 / ANSWERS[name]
  best = max(answers.values()) / answers.total()
  # Five deviations, as if each row asked for one thing alone.
  assert best < chance + 5 * math.sqrt(chance * (1 - chance) / n_rows)
  assert len(answers) > ANSWERS[name] / 2


def first_batches(data, n, before=0, n_shards=1):
  """The next global batches after `before`, put together from their shards."""
  prepared = prepare(data)
  parts = []
  for shard in range(n_shards):
    batches = pipeline.train_batches(
      prepared, data, shard=shard, n_shards=n_shards
    )
    batches.restore({"batches": before})
    parts.append(list(itertools.islice(batches, n)))
    batches.close()
  return [
    {k: np.concatenate([p[i][k] for p in parts]) for k in parts[0][0]}
    for i in range(n)
  ]


def same(batches, others):
  return all(
    np.array_equal(a[k], b[k])
    for a, b in zip(batches, others, strict=True)
    for k in a
  )


@pytest.mark.parametrize("name", list(TASKS))
def test_any_shards_and_a_restart_give_the_same_batches(name):
  data = data_of(name)
  whole = first_batches(data, 4)
  assert same(whole, first_batches(data, 4, n_shards=4))
  assert same(whole[2:], first_batches(data, 2, before=2, n_shards=2))
  batch = whole[0]
  assert batch["row"].tolist() == list(range(8))
  row = rows_of(data, 1)[0]
  for field in row._fields:
    np.testing.assert_array_equal(batch[field][0], getattr(row, field))
  assert batch["example_ids"].tolist() == list(range(8))


def test_positions_begin_anew_in_each_equation():
  batch = first_batches(data_of("modular_addition", 11), 1)[0]
  assert batch["segment_ids"][0].tolist() == [1] * 4 + [2] * 4 + [0] * 3
  assert batch["positions"][0, :8].tolist() == [0, 1, 2, 3] * 2


def prints():
  """Task -> the hash of its rows: also what the other process prints."""
  return {
    name: prepare(data_of(name, 40)).fingerprint
    for name in TASKS
    if name != "mine"
  }


def test_another_process_draws_the_same_rows():
  code = "from test_tasks import prints; print(prints())"
  done = subprocess.run(
    [sys.executable, "-c", code],
    cwd=pathlib.Path(__file__).parent,
    env={"PYTHONPATH": str(ROOT), "PATH": "", "PYTHONHASHSEED": "7"},
    capture_output=True,
    text=True,
  )
  assert done.stdout.strip() == str(prints()), done.stderr


@pytest.mark.parametrize("name", list(TASKS))
def test_a_seed_changes_the_training_rows_alone(name):
  data = data_of(name, heldout_rows=16)
  other = dataclasses.replace(data, seed=1)
  assert not same(first_batches(data, 1), first_batches(other, 1))
  held = [list(pipeline.heldout_task_batches(d)) for d in (data, other)]
  assert same(*held)
  assert prepare(data).fingerprint == prepare(other).fingerprint


def test_what_an_evaluation_does_otherwise_leaves_the_rows_as_they_are():
  data = data_of("mqar")
  more = data_of("mqar", heldout_rows=64, eval_lengths=(100,))
  assert same(first_batches(data, 1), first_batches(more, 1))
  first = next(pipeline.heldout_task_batches(data))
  assert same([first], [next(pipeline.heldout_task_batches(more))])


@pytest.mark.parametrize("name", list(TASKS))
def test_no_heldout_row_is_in_training(name):
  data = data_of(name)
  sides = [rows_of(data, 80, seed) for seed in (0, None)]
  if name == "modular_addition":
    sides = [
      {tuple(read) for row in side for read, _ in questions(row)}
      for side in sides
    ]
  else:
    sides = [{row.tokens.tobytes() for row in side} for side in sides]
  assert all(len(side) > 70 for side in sides) and sides[0].isdisjoint(sides[1])


def test_where_rows_are_few_both_sides_still_share_none():
  data = data_of("parity", 9)  # 256 rows
  train, heldout = (
    {row.tokens.tobytes() for row in rows_of(data, 1500, seed)}
    for seed in (0, None)
  )
  assert train.isdisjoint(heldout)
  assert len(train | heldout) > 250 and 15 < len(heldout) < 60


def test_addition_trains_on_the_share_of_all_pairs_that_it_is_given():
  data = data_of("modular_addition", modulus=7, train_share=0.4, task_seed=3)
  train, heldout = (
    {
      tuple(read)
      for row in rows_of(data, 60, seed)
      for read, _ in questions(row)
    }
    for seed in (5, None)
  )
  assert len(train) == 20 and len(heldout) == 29
  other = data_of("modular_addition", modulus=7, train_share=0.4, task_seed=4)
  again = {tuple(r) for row in rows_of(other, 60) for r, _ in questions(row)}
  assert len(again) == 20 and again != train


def test_the_facts_to_memorize_depend_on_the_tasks_seed_alone():
  def facts(seed, **options):
    data = data_of("memorization", n_facts=10, **options)
    rows = rows_of(data, 20, seed)
    return {(r[-2], a) for row in rows for r, a in questions(row)}

  assert len(facts(0)) == 10 and facts(0) == facts(1) == facts(None)
  assert facts(0, task_seed=1) != facts(0)


def test_fuzzy_keys_have_the_full_length_in_evaluation_alone():
  data = data_of("fuzzy_recall")

  def key_sizes(seed):
    sizes = set()
    for row in rows_of(data, 30, seed):
      is_key = (row.tokens > 0) & (row.tokens <= 8)
      runs = itertools.groupby(is_key.tolist())
      sizes |= {len(list(run)) for key, run in runs if key}
    return sizes

  assert key_sizes(0) == {1, 2, 3} and key_sizes(None) == {3}


def test_queries_are_nearer_with_less_power():
  def mean_slot(power):
    rows = rows_of(data_of("mqar", 256, power=power), 50)
    return np.mean([np.flatnonzero(row.weights).mean() for row in rows])

  # Uniform: the middle of the 240 slots behind the pairs.
  assert abs(mean_slot(1.0) - 16 - 120) < 12
  assert mean_slot(0.01) < mean_slot(1.0) - 40


def test_a_share_of_the_pairs_is_noise():
  rows = rows_of(data_of("noisy_recall", noise_share=0.3), 200)
  assert abs(np.mean([(row.tokens > 16).mean() for row in rows]) - 0.3) < 0.03


@pytest.mark.parametrize(
  ("symbols", "lengths"), [(8, range(4, 9)), (64, range(16, 33))]
)
def test_no_one_distance_answers_induction(symbols, lengths):
  """From half of the longest block, however few symbols there are."""
  rows = rows_of(data_of("induction_heads", 64, symbols=symbols), 400)
  # The first symbol that is asked for is the first of the second block.
  sizes = {int(np.flatnonzero(row.weights)[0]) for row in rows}
  assert sizes == set(lengths)


def test_needles_lie_at_every_depth():
  slots = [
    np.flatnonzero(r.tokens == 1)[0] for r in rows_of(data_of("needle"), 900)
  ]
  assert set(slots) == set(range(64 - 2 - 3 + 1))


def test_so_many_training_rows_come_once_each_epoch_in_a_new_order():
  data = data_of("dyck", train_rows=20)
  rows = np.concatenate([b["row"] for b in first_batches(data, 10)])
  epochs = rows[:80].reshape(4, 20)
  assert all(sorted(epoch) == list(range(20)) for epoch in epochs.tolist())
  assert len({tuple(epoch) for epoch in epochs.tolist()}) == 4
  tokens = np.concatenate([b["tokens"] for b in first_batches(data, 10)])
  assert len(np.unique(tokens, axis=0)) == 20
  assert same(
    first_batches(data, 10)[6:], first_batches(data, 4, before=6, n_shards=2)
  )


def test_heldout_rows_come_once_and_the_last_batch_is_filled_up():
  data = data_of("mqar", heldout_rows=19)
  batches = list(pipeline.heldout_task_batches(data))
  rows = np.concatenate([batch["row"] for batch in batches])
  assert rows.tolist() == [*range(19), *[-1] * 5]
  weights = np.concatenate([batch["weights"] for batch in batches])
  assert weights[:19].sum() == 19 * 8 and not weights[19:].any()


def test_a_task_of_a_users_own_is_drawn_like_the_others(tmp_path):
  file = tmp_path / "mine.py"
  file.write_text(
    '"""Say it again (This test)."""\n'
    "import numpy as np\n"
    "from ablax.data.tasks import TASKS, Task, TaskOptions, next_symbol_row\n"
    "Options = TaskOptions\n"
    '@TASKS.register("mine")\n'
    "class Mine(Task):\n"
    "  vocab_size = 10\n"
    "  def draw(self, rng):\n"
    "    symbols = np.resize(rng.integers(1, 10, size=4), self.seq_len)\n"
    "    asked = np.arange(self.seq_len) > 3\n"
    "    return next_symbol_row(symbols, asked, self.seq_len)\n"
  )
  try:
    data = resolve(
      base.get_config(), {"plugins": str(file), "data.task": "mine"}
    ).data
    batch = first_batches(data, 1)[0]
    np.testing.assert_array_equal(
      batch["tokens"][:, :4], batch["tokens"][:, 4:8]
    )
  finally:
    TASKS._registered.pop("mine", None)
