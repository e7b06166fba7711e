"""The mixer contract, for mixers and positions in pairs.

Here every position with three mixers and every mixer with three positions;
under `slow` what has weights on eight devices, under `long` all pairs.
"""

import pytest

from ablax.errors import UserError
from ablax.models.mixers import MIXERS
from ablax.models.positions import POSITIONS
from ablax.train.proofs.mixer import contract

# So small that each matters within the contract's 19 tokens.
OPTIONS = {
  "sliding_window": {"window": 5},
  "streaming": {"window": 5, "first": 2},
  "mla": {"kv_rank": 12, "rope_dim": 4},
  "strided": {"stride": 3},
  "fixed": {"stride": 4, "summary": 1},
  "longformer": {"window": 4, "n_global": 2},
  "bigbird": {"block": 2, "window": 2},
  "rerope": {"window": 6},
  "t5": {"buckets": 8, "max_distance": 12},
  "deberta": {"max_distance": 8},
  # Beyond it one pass is that of the whole length, as their files say; what
  # they do there is in test_softmax_mixers.py.
  "dynamic_ntk": {"original_len": 40},
  "consistent_ntk": {"original_len": 40},
  "longrope": {"original_len": 40},
}
SOME_MIXERS = ("attention", "sliding_window", "mla")
SOME_POSITIONS = ("rope", "t5", "rerope")
WITH_WEIGHTS = ("t5", "transformer_xl", "tupe", "deberta")


def config_of(model_config, mixer, position):
  opts = {
    f"{entry}.{option}": value
    for entry in (mixer, position)
    for option, value in OPTIONS.get(entry, {}).items()
  }
  return model_config(pattern=(mixer,), position=position, opts=opts)


ALL = [(m, p) for m in MIXERS.own for p in POSITIONS.own]
QUICK = [
  (m, p)
  for m, p in ALL
  if m in SOME_MIXERS
  or p in SOME_POSITIONS
  or (m, p) == ("streaming", "transformer_xl")  # farther than it has slots
]


def check(model_config, mixer, position, **more):
  try:
    config = config_of(model_config, mixer, position)
  except UserError as error:
    # Refused at construction, by both names.
    assert f"'{mixer}'" in str(error) and f"'{position}'" in str(error)
    return
  checks = list(contract(mixer, config, **more))
  assert checks and [c for c in checks if not c.holds] == []


@pytest.mark.parametrize(("mixer", "position"), QUICK)
def test_the_contract_holds(model_config, mixer, position):
  check(model_config, mixer, position, meshes=False)


@pytest.mark.slow
@pytest.mark.parametrize(
  ("mixer", "position"),
  [(m, "rope") for m in MIXERS.own] + [("attention", p) for p in WITH_WEIGHTS],
)
def test_the_contract_holds_on_eight_devices(model_config, mixer, position):
  check(model_config, mixer, position)


@pytest.mark.long
@pytest.mark.parametrize(
  ("mixer", "position"), [pair for pair in ALL if pair not in QUICK]
)
def test_the_contract_holds_for_the_other_pairs(model_config, mixer, position):
  check(model_config, mixer, position, meshes=False)
