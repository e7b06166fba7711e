"""A budget is met within 1 %, or said to be out of reach."""

import pytest

from ablax.ablate import budget, plan
from ablax.ablate import run as runs
from ablax.ablate.arms import Space
from ablax.ablate.budget import nearest_value
from ablax.ablate.costs import cost
from ablax.ablate.sweep import make_sweep
from ablax.configs.lm import toy
from ablax.errors import UserError


def fair(given=None, **fields):
  sweep = make_sweep("test", "", toy.get_config, Space(**fields), given or {})
  return sweep.with_solved(budget.solve(sweep, sweep.resolve, sweep.names))


GROUPS = {
  "arms": {"mha": {}, "mqa": {"model.n_kv_heads": 1}},
  "axes": ("model.n_kv_heads",),
}


@pytest.mark.parametrize(
  ("kind", "key", "of"),
  [
    ("params", "model.ff_dim", lambda c: c.params),
    ("flops", "model.ff_dim", lambda c: c.flops),
    ("flops", "steps", lambda c: c.flops),
    ("memory", "model.ff_dim", lambda c: c.memory),
  ],
)
def test_arms_cost_the_same_within_a_percent(kind, key, of):
  sweep = fair(**GROUPS, budget=kind, solve=key, multiple_of=1)
  mha, mqa = (cost(sweep[name].config) for name in ("mha", "mqa"))
  assert of(mqa) == pytest.approx(of(mha), rel=0.01)
  assert list(sweep["mqa"].solved) == [key]
  assert sweep["mha"].solved == {}
  # Something had to be done, or this would show nothing.
  before = make_sweep("test", "", toy.get_config, Space(**GROUPS), {})
  assert abs(of(cost(before["mqa"].config)) / of(mha) - 1) > 0.01


def test_tokens_are_met_by_steps():
  sweep = fair(
    arms={"short": {}, "long": {"data.seq_len": 256}},
    axes=("data.seq_len",),
    budget="tokens",
    solve="steps",
  )
  assert sweep["long"].solved == {"steps": 200}


def test_an_arm_that_is_fair_already_stays_as_it_is():
  sweep = fair(
    arms={"a": {}, "b": {"model.norm": "layer_norm"}},
    axes=("model.norm",),
    budget="params",
    solve="model.ff_dim",
  )
  assert sweep["b"].solved == {}


def test_a_budget_out_of_reach_says_how_near_it_came():
  with pytest.raises(UserError) as error:
    fair(
      arms={"a": {}, "b": {"model.ff_dim": 1024}},
      axes=("model.ff_dim",),
      budget="params",
      solve="model.n_layers",
    )
  assert "nearest is model.n_layers=1 with" in str(error.value)
  assert "more than 1%" in str(error.value)


def test_a_key_that_counts_nothing_is_refused():
  with pytest.raises(UserError, match="must be a key that counts something"):
    fair(**GROUPS, budget="params", solve="opt.lr")


def test_values_that_cannot_be_are_stepped_over():
  def at(value):
    return None if value % 12 else float(value**2)

  assert nearest_value(at, 8, 4, 60.0**2) == 60
  assert nearest_value(at, 1000, 4, 59.0**2) == 60
  assert nearest_value(lambda value: None, 8, 4, 1.0) is None


@pytest.mark.parametrize("target", [3, 17, 64, 1000, 12345])
@pytest.mark.parametrize("start", [1, 7, 5000])
def test_the_nearest_multiple_is_found_from_anywhere(start, target):
  found = nearest_value(lambda v: v * 1.0, start, 7, float(target))
  assert found == min(range(7, 20_000, 7), key=lambda v: abs(v - target))


def test_an_arm_that_comes_later_meets_the_budget_too(tmp_path):
  told = {"budget": "params", "solve": "model.ff_dim", "multiple_of": 1}

  def sweep_of(arms):
    space = Space(arms=arms, axes=("model.n_kv_heads",), **told)
    return make_sweep("test", "", toy.get_config, space, {})

  arms = {"mha": {}, "mqa": {"model.n_kv_heads": 1}}
  first = runs.fair(sweep_of(arms), tmp_path)
  plan.begin(tmp_path, plan.make_plan(first, 2, 1, 1, "code"))
  more = sweep_of({**arms, "gqa": {"model.n_kv_heads": 2}})
  later = runs.fair(more, tmp_path)
  assert later["mqa"].solved == first["mqa"].solved
  assert cost(later["gqa"].config).params == pytest.approx(
    cost(later["mha"].config).params, rel=0.01
  )
  assert later["gqa"].solved


def test_equal_time_is_met_by_updates():
  sweep = make_sweep("test", "", toy.get_config, Space(**GROUPS), {})
  timed = make_sweep(
    "test",
    "",
    toy.get_config,
    Space(**GROUPS, budget="time", solve="steps"),
    {},
  )
  assert budget.solve_time(timed, {"mha": 2.0, "mqa": 1.6}) == {
    "mqa": {"steps": round(sweep["mha"].config.steps * 2 / 1.6)}
  }
