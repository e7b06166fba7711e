"""Arms are what the config says, and nothing else differs between them."""

import pathlib
import textwrap

import pytest

from ablax.ablate.arms import Space, read_space
from ablax.ablate.sweep import (
  default_folder,
  load_sweep,
  make_sweep,
  select,
  with_seed,
)
from ablax.configs.lm import toy
from ablax.errors import UserError


def sweep_of(given=None, solved=None, **fields):
  return make_sweep(
    "test", "", toy.get_config, read_space(fields), given or {}, solved
  )


PLUGIN = str(pathlib.Path(__file__).parents[2] / "examples/plugins/average.py")
NORMS = {
  "arms": {"pre": {}, "post": {"model.residual": "post"}},
  "axes": ("model.residual",),
}


def test_arms_grid_and_zip_multiply():
  space = Space(
    arms={"a": {}, "b": {"model.residual": "post"}},
    grid={"opt.lr": (1e-3, 3e-3), "opt.weight_decay": (0.0, 0.1)},
    zip={"model.d_model": (32, 64), "model.n_heads": (2, 4)},
  )
  arms = space.expand()
  assert len(arms) == 2 * 2 * 2 * 2
  assert arms["b lr=0.003 weight_decay=0 d_model=64"] == {
    "model.residual": "post",
    "opt.lr": 3e-3,
    "opt.weight_decay": 0.0,
    "model.d_model": 64,
    "model.n_heads": 4,
  }


def test_a_condition_leaves_arms_out():
  space = Space(
    grid={"model.n_layers": (1, 2), "opt.lr": (1e-3, 3e-3)},
    where=lambda o: o["model.n_layers"] == 1 or o["opt.lr"] < 2e-3,
  )
  assert list(space.expand()) == [
    "n_layers=1 lr=0.001",
    "n_layers=1 lr=0.003",
    "n_layers=2 lr=0.001",
  ]


def test_keys_with_one_last_word_are_named_in_full():
  space = Space(grid={"opt.name": ("adamw", "lion"), "objective.name": ("x",)})
  assert "opt.name=adamw objective.name=x" in space.expand()


def test_an_arm_holds_its_whole_config_and_its_changes():
  sweep = sweep_of(**NORMS)
  assert sweep.baseline == "pre"
  assert sweep["post"].changes == {"model.residual": "post"}
  assert sweep["post"].config.model.residual == "post"
  assert sweep["pre"].changes == {}


def test_the_command_line_changes_all_arms():
  sweep = sweep_of({"steps": "70"}, **NORMS)
  assert [arm.config.steps for arm in sweep.arms] == [70, 70]


@pytest.mark.parametrize(
  ("fields", "named"),
  [
    # The width of a head follows from the number of heads.
    (
      {"arms": {"four": {}, "two": {"model.n_heads": 2}}}
      | {"axes": ("model.n_heads",)},
      ["arm 'two' also changes model.n_kv_heads (4 in 'four', 2 here)"],
    ),
    (
      {"grid": {"model.n_heads": (4, 2)}},
      ["model.head_dim (16 in 'n_heads=4', 32 here)", "declared axes"],
    ),
    # Said by the arm, but not by the axes.
    (
      {"arms": {"a": {}, "b": {"model.residual": "post", "opt.lr": 0.5}}}
      | {"axes": ("model.residual",)},
      ["arm 'b' also changes opt.lr (0.01 in 'a', 0.5 here)"],
    ),
    # An option of another optimizer, off its default.
    (
      {"arms": {"a": {}, "b": {"opt.name": "lion", "opt.opts.lion.b1": 0.5}}}
      | {"axes": ("opt.name",)},
      ["opt.opts.lion.b1"],
    ),
  ],
)
def test_an_arm_that_changes_a_second_thing_is_refused(fields, named):
  with pytest.raises(UserError) as error:
    sweep_of(**fields)
  for text in named:
    assert text in str(error.value)


def test_a_chosen_entry_brings_its_options_along():
  sweep = sweep_of(
    arms={"adamw": {}, "lion": {"opt.name": "lion"}}, axes=("opt.name",)
  )
  assert sweep["lion"].changes == {"opt.name": "lion"}
  own = sweep_of(
    arms={"a": {}, "b": {"opt.name": "lion", "opt.opts.lion.b1": 0.5}},
    axes=("opt.name", "opt.opts"),
  )
  assert own["b"].changes == {"opt.name": "lion", "opt.opts.lion.b1": 0.5}


def test_a_declared_namespace_covers_its_keys():
  sweep = sweep_of(
    arms={"a": {}, "b": {"opt.name": "lion", "opt.lr": 1e-3}}, axes=("opt",)
  )
  assert sweep["b"].changes["opt.lr"] == 1e-3


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({}, "spans 0 arm"),
    ({"arms": {"a": {}}, "axes": ("opt.lr",)}, "needs 2 or more"),
    (
      {"arms": {"a": {}, "b": {}}, "axes": ("opt.lr",)},
      "arm 'b' changes nothing",
    ),
    (
      {"arms": {"a": {}, "b": {"opt.lr": 1.0}, "c": {"opt.lr": 1}}}
      | {"axes": ("opt.lr",)},
      "'b' and 'c' are the same config",
    ),
    ({**NORMS, "baseline": "pra"}, "is no arm; did you mean 'pre'"),
    ({**NORMS, "axes": ()}, "axes=('model.residual',)"),
    ({**NORMS, "axes": ("model.residul",)}, "did you mean 'model.residual'"),
    ({**NORMS, "axes": "model.residual"}, "write ('model.residual',)"),
    (
      {"arms": {"a": {}, "b": {"model.residuals": "post"}}}
      | {"axes": ("model.residual",)},
      "arm 'b': model.residuals is not a config key",
    ),
    (
      {"arms": {"a": {}, "b": {"seed": 3}}, "axes": ("seed",)},
      "arm 'b' sets seed",
    ),
    ({"zip": {"opt.lr": (1.0, 2.0), "steps": (1,)}}, "opt.lr has 2, steps has"),
    ({**NORMS, "goal": "minimum"}, "did you mean 'min'"),
    ({**NORMS, "budget": "params"}, "belong together"),
    ({**NORMS, "budget": "parms", "solve": "steps"}, "did you mean 'params'"),
    ({**NORMS, "alpha": 5.0}, "must be in (0, 1)"),
    ({**NORMS, "alpha": "5 %"}, "alpha='5 %' must be a number"),
    ({**NORMS, "seeds": "5"}, "seeds='5' must be a whole number"),
    ({**NORMS, "baseline": 1}, "baseline=1 must be text"),
    ({**NORMS, "metric": None}, "metric=None must be text"),
    ({**NORMS, "multiple_of": -8}, "multiple_of=-8 must be positive"),
    ({"grid": {"opt.lr": 0.1}}, "opt.lr has 0.1; give its values as a tuple"),
    ({"grid": {"opt.name": "adamw"}}, "opt.name has 'adamw'; give its values"),
    ({"zip": 3}, "zip=3 must be a dict of keys"),
    ({"zip": ({},)}, "zip has {}; a group is a dict of keys"),
    ({"zip": ("opt.lr",)}, "zip has 'opt.lr'; a group is a dict of keys"),
    ({"arms": {1: {}, 2: {"opt.lr": 1.0}}, "axes": ("opt.lr",)}, "named 1"),
    ({"arms": {"..": {}}, "axes": ("opt.lr",)}, "an arm is named '..'"),
    (
      {"grid": {"opt.lr": (0.1, 0.2)}, "where": lambda o: o["steps"] > 1},
      "where fails for the arm 'lr=0.1': KeyError: 'steps'",
    ),
    (
      {"arms": {"a": {}, "b": {"plugins": (PLUGIN,), "model.mixer": "average"}}}
      | {"axes": ("model.mixer", "plugins")},
      "load the same in all, in get_config()",
    ),
    (
      {"arms": {"a b": {}, "a/b": {"opt.lr": 1.0}}, "axes": ("opt.lr",)},
      "share the folder a_b",
    ),
    (
      {"arms": {"a": {}, "b": {"opt.lr": 1.0}}, "axes": ("opt.lr",)}
      | {"grid": {"opt.lr": (1.0, 2.0)}},
      "opt.lr is set twice",
    ),
  ],
)
def test_a_sweep_that_cannot_be_is_refused_in_one_line(fields, message):
  with pytest.raises(UserError) as error:
    sweep_of(**fields)
  assert message in str(error.value)
  assert "\n" not in str(error.value)


def test_the_command_line_may_not_set_what_arms_or_seeds_set():
  with pytest.raises(UserError, match="set by arm 'post' and on the command"):
    sweep_of({"model.residual": "pre"}, **NORMS)
  with pytest.raises(UserError, match="use --seeds=N"):
    sweep_of({"seed": "3"}, **NORMS)


def test_a_dtype_of_the_machines_choice_is_refused():
  with pytest.raises(UserError, match="name a dtype"):
    sweep_of({"model.compute_dtype": "auto"}, **NORMS)


def test_an_unknown_field_is_named():
  with pytest.raises(UserError, match="'arm' is no field; did you mean 'arms'"):
    read_space({"arm": {}})


def test_a_seed_sets_weights_and_data_order():
  config = with_seed(sweep_of(**NORMS)["post"].config, 3)
  assert (config.seed, config.data.seed) == (3, 3)


def test_selected_arms_bring_the_baseline():
  assert select(("pre", "post", "both"), "both", "pre") == ("pre", "both")
  with pytest.raises(UserError, match="'pots' is no arm; did you mean 'post'"):
    select(("pre", "post"), "pots", "pre")


def test_an_arm_whose_name_has_commas_can_be_selected():
  names = ("tied", "untied", "untied, equal")
  assert select(names, "untied, equal", "tied") == ("tied", "untied, equal")
  assert select(names, "untied,untied, equal", "tied") == names
  assert select(names, "untied", "tied") == ("tied", "untied")
  with pytest.raises(UserError, match="'equal' is no arm"):
    select(names, "equal, untied", "tied")


def test_a_base_that_is_no_config_is_refused(tmp_path):
  file = tmp_path / "mine.py"
  file.write_text("def get_config(): pass\ndef sweep(): return {}\n")
  with pytest.raises(UserError, match="returns NoneType, not a ConfigDict"):
    load_sweep(str(file))


def test_a_file_without_a_sweep_is_refused(tmp_path):
  with pytest.raises(UserError, match=r"has no sweep\(\)"):
    load_sweep("configs/lm/toy.py")
  file = tmp_path / "mine.py"
  file.write_text(
    textwrap.dedent(
      '''
      """A claim.

      Its command.
      """
      from ablax.configs.lm.toy import get_config

      def sweep():
        return {"grid": {"opt.lr": (1 / 0, 1.0)}}
      '''
    )
  )
  with pytest.raises(UserError, match=r"mine.py:9: ZeroDivisionError"):
    load_sweep(str(file))


def test_the_claim_is_the_docstring():
  sweep = load_sweep("configs/ablations/norm_placement.py")
  assert sweep.claim.startswith("Norms before the sublayers train better")
  assert sweep.names == ("pre", "post", "sandwich", "parallel")


def test_an_argument_is_for_the_base_and_in_the_name(tmp_path):
  file = tmp_path / "mine.py"
  file.write_text(
    textwrap.dedent(
      '''
      """Widths."""
      from ablax.configs.lm import toy_task


      def get_config(task):
        config = toy_task.get_config()
        config.data.task = task
        return config


      def sweep():
        return {"grid": {"model.d_model": (32, 64)}, "axes": ("model",)}
      '''
    )
  )
  sweep = load_sweep(f"{file}:memorization")
  assert sweep.name == "mine_memorization"
  assert sweep[sweep.baseline].config.data.task == "memorization"
  assert default_folder(f"{file}:parity").name == "mine_parity"
  with pytest.raises(UserError, match=r"mine\.py: get_config\(\): .* add one"):
    load_sweep(str(file))
