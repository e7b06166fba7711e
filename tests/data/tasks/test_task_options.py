"""What a task can not be is refused before any row, with rule and fix."""

import pytest
from drawn import data_of, rows_of

from ablax.data.tasks import TASKS
from ablax.errors import UserError


@pytest.mark.parametrize("name", list(TASKS))
def test_a_row_that_is_too_short_is_refused_with_what_is_enough(name):
  with pytest.raises(
    UserError, match=r"^data.seq_len=1 is too short for .*use"
  ):
    data_of(name, 1)


BAD = [
  ("mqar", "n_pairs", 0, "data.opts.mqar.n_pairs=0 must be at least 1"),
  ("mqar", "n_pairs", 17, "data.seq_len=64 is too short for n_pairs=17"),
  ("mqar", "symbols", 15, "is less than twice n_pairs=8"),
  ("mqar", "power", 0.0, "power=0.0 must be in (0, 1]"),
  ("mqar", "heldout_rows", 0, "heldout_rows=0 must be at least 1"),
  ("mqar", "train_rows", -1, "train_rows=-1 must be at least 0"),
  ("mqar", "eval_lengths", (-3,), "holds -3; lengths are positive"),
  ("mqar", "eval_lengths", (20,), "eval_lengths=20: data.seq_len=20 is too"),
  ("mqar", "eval_lengths", (2048,), "raise model.max_len"),
  ("mqar", "pairs", 3, "data.opts.mqar.pairs is not an option; did you mean"),
  ("in_context_recall", "symbols", 3, "symbols=3 must be at least 4"),
  ("noisy_recall", "noise_share", 1.0, "noise_share=1.0 must be in (0, 1)"),
  ("noisy_recall", "noise_symbols", 0, "noise_symbols=0 must be at least 1"),
  ("fuzzy_recall", "symbols", 6, "symbols=6 has 3 for keys, too few"),
  ("selective_copying", "n_copied", 32, "use 65 or more"),
  ("compression", "eval_lengths", (128,), "evaluate at shorter lengths"),
  ("memorization", "n_facts", 1, "n_facts=1 must be at least 2"),
  ("induction_heads", "form", "repaet", "did you mean 'repeat'?"),
  ("dyck", "n_brackets", 1, "n_brackets=1 must be at least 2"),
  ("dyck", "depth", 64, "data.seq_len=64 is too short for depth=64"),
  ("modular_addition", "train_share", 1.0, "leaves 9409 of 9409 pairs"),
  ("needle", "n_needles", 17, "n_needles=17 is more than n_keys=16"),
  ("passkey", "n_digits", 21, "use 65 or more"),
]


@pytest.mark.parametrize(("name", "option", "value", "message"), BAD)
def test_an_option_out_of_range_is_told_with_rule_and_fix(
  name, option, value, message
):
  with pytest.raises(UserError) as caught:
    data_of(name, **{option: value})
  assert message in str(caught.value) and "\n" not in str(caught.value)


def test_too_few_different_rows_for_two_sides_is_an_error():
  data = data_of("induction_heads", 4, symbols=2)  # abab and baba
  with pytest.raises(UserError, match="too few different rows"):
    rows_of(data, 1), rows_of(data, 1, None)
