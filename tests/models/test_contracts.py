"""The mixer contract, for mixers and positions in pairs.

Here every position with three mixers and every mixer with three positions;
under `slow` one of each kind on eight devices, under `long` the others there,
and all pairs.
"""

import pytest
from small_options import small_options

from ablax.errors import UserError
from ablax.models.mixers import MIXERS
from ablax.models.positions import POSITIONS
from ablax.train.proofs.mixer import contract

SOME_MIXERS = ("attention", "sliding_window", "mla")
SOME_POSITIONS = ("rope", "t5", "rerope")
WITH_WEIGHTS = ("t5", "transformer_xl", "tupe", "deberta")
# Attention, caches and kernels of each kind.
KINDS = (
  *("attention", "mla", "native_sparse", "linear_attention", "mamba"),
  *("gated_delta_net", "rwkv7", "rg_lru", "hyena", "ttt_linear"),
)


def positions(mixer):
  return POSITIONS.own if MIXERS[mixer].positional else ("none",)


ALL = [(m, p) for m in MIXERS.own for p in positions(m)]
QUICK = [
  (m, p)
  for m, p in ALL
  if m in SOME_MIXERS
  or p in SOME_POSITIONS
  or not MIXERS[m].positional
  or (m, p) == ("streaming", "transformer_xl")  # farther than it has slots
]


# Options that change what a mixer keeps, or how it decodes.
VARIANTS = [
  ("longformer", {"longformer.own_projections": True}),
  ("delta_net", {"delta_net.negative_eigenvalues": True, "delta_net.conv": 1}),
  ("linear_attention", {"linear_attention.feature_map": "taylor"}),
  ("linear_attention", {"linear_attention.feature_map": "hedgehog"}),
  ("mamba2", {"mamba2.head_dim": 8, "mamba2.state": 5}),
  ("mamba2", {"mamba2.channels": 32, "mamba2.norm": False}),
  ("mamba", {"mamba.inner_norm": "scaled"}),
  ("mamba", {"mamba.n_heads": 2}),
  ("shared_block", {"shared_block.mixer": "mamba2", "shared_block.ffn": "mlp"}),
  (
    "mamba3",
    {"mamba3.rank": 3, "mamba3.norm": True, "mamba3.head_dim": 8},
  ),
  (
    "mamba3",
    {"mamba3.rope_fraction": 0.0, "mamba3.rule": "euler", "mamba3.rank": 2},
  ),
  (
    "ttt_linear",
    {
      "ttt_linear.batch": 5,
      "ttt_linear.conv": 0,
      "ttt_linear.gate": False,
    },
  ),
  ("gated_delta_net", {"gated_delta_net.n_heads": 6}),
  ("gated_delta_net", {"gated_delta_net.n_key_heads": 2}),
  ("attention", {"attention.gate": "channel"}),
  ("parallel_heads", {"parallel_heads.mixers": ("rg_lru", "sliding_window")}),
]


def check(model_config, mixer, position, opts=None, **more):
  try:
    opts = small_options(mixer, position) | (opts or {})
    config = model_config(pattern=(mixer,), position=position, opts=opts)
  except UserError as error:
    # Refused at construction, by both names.
    assert f"'{mixer}'" in str(error) and f"'{position}'" in str(error)
    return
  checks = list(contract(mixer, config, **more))
  assert checks and [c for c in checks if not c.holds] == []


@pytest.mark.parametrize(("mixer", "position"), QUICK)
def test_the_contract_holds(model_config, mixer, position):
  check(model_config, mixer, position, meshes=False)


@pytest.mark.parametrize(("mixer", "opts"), VARIANTS)
def test_the_contract_holds_with_other_options(model_config, mixer, opts):
  position = "rope" if MIXERS[mixer].positional else "none"
  check(model_config, mixer, position, opts, meshes=False)


def _on_meshes(mixer, position):
  """One of each kind in CI, and the others by hand: ten seconds each."""
  mark = pytest.mark.slow if mixer in KINDS else pytest.mark.long
  return pytest.param(mixer, position, marks=mark)


@pytest.mark.parametrize(
  ("mixer", "position"),
  [
    _on_meshes(m, "rope" if MIXERS[m].positional else "none")
    for m in MIXERS.own
  ]
  + [_on_meshes("attention", p) for p in WITH_WEIGHTS],
)
def test_the_contract_holds_on_eight_devices(model_config, mixer, position):
  check(model_config, mixer, position)


@pytest.mark.long
@pytest.mark.parametrize(
  ("mixer", "position"), [pair for pair in ALL if pair not in QUICK]
)
def test_the_contract_holds_for_the_other_pairs(model_config, mixer, position):
  check(model_config, mixer, position, meshes=False)


@pytest.mark.parametrize(
  "mixer", [m for m in MIXERS.own if not MIXERS[m].positional]
)
def test_a_position_without_a_meaning_is_refused(model_config, mixer):
  with pytest.raises(
    UserError, match=r"position='t5' acts on queries and keys"
  ):
    model_config(pattern=(mixer,), position="t5")
  model_config(pattern=(mixer,), position="learned")
  assert model_config(pattern=(mixer,)).position == "none"
  assert model_config(pattern=(mixer, "attention")).position == "rope"
