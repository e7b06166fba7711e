"""Config: what resolves, and every mistake in one line before any array."""

import dataclasses
import json
import math
import pathlib
import re

import pytest
from ml_collections import ConfigDict

from ablax.configs import base
from ablax.errors import UserError
from ablax.models.mixers import MIXERS
from ablax.train.config import (
  NAMESPACES,
  Config,
  from_dict,
  load,
  resolve,
)
from ablax.train.config_files import split_args
from ablax.train.objectives import OBJECTIVES
from ablax.train.optimizers import OPTIMIZERS
from ablax.train.schedules import SCHEDULES
from ablax.train.workdir import claim

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHIPPED = sorted(
  f for f in (ROOT / "configs").rglob("*.py") if f.stem != "__init__"
)


def make(**overrides) -> Config:
  return resolve(
    base.get_config(), {k.replace("__", "."): v for k, v in overrides.items()}
  )


def refused(call, *args) -> str:
  with pytest.raises(UserError) as caught:
    call(*args)
  message = str(caught.value)
  assert "\n" not in message
  return message


def override(key, value) -> str:
  return refused(resolve, base.get_config(), {key: value})


def in_file(tmp_path, body, name="mine.py") -> pathlib.Path:
  """A config file whose get_config() has these lines."""
  lines = "".join(f"  {line}\n" for line in body.split("\n"))
  file = tmp_path / name
  file.write_text(
    "from ablax.configs import base\n\n\ndef get_config():\n"
    f"  config = base.get_config()\n{lines}  return config\n"
  )
  return file


# What the keys are.


def leaves(tree, prefix=""):
  for key, value in tree.items():
    if isinstance(value, dict):
      yield from leaves(value, f"{prefix}{key}.")
    else:
      yield prefix + key


def test_each_key_is_a_field_and_each_field_a_key():
  tree = base.get_config().to_dict()
  fields = {
    f"{name}.{f.name}"
    for name, component in NAMESPACES.items()
    for f in dataclasses.fields(component)
    if f.name != "opts"
  } | {f.name for f in dataclasses.fields(Config) if f.name not in NAMESPACES}
  assert set(leaves(tree)) - {"model.mixer", "data.source"} == fields
  with_opts = {
    name
    for name, component in NAMESPACES.items()
    if "opts" in {f.name for f in dataclasses.fields(component)}
  }
  assert {name for name in NAMESPACES if "opts" in tree[name]} == with_opts


def test_there_are_fewer_than_120_keys():
  assert len(list(leaves(base.get_config().to_dict()))) < 120


@pytest.mark.parametrize(
  "file", SHIPPED, ids=lambda f: f.relative_to(ROOT).as_posix()
)
def test_every_shipped_config_loads_and_says_its_command(file):
  assert load(str(file)).steps >= 1
  if file.parent.name != "configs":  # base.py is no experiment
    doc = file.read_text(encoding="utf-8")
    assert f"--config={file.relative_to(ROOT).as_posix()}" in doc
    assert "Cost:" in doc


def test_a_packaged_config_is_found_from_any_folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  config = load("configs/lm/tiny.py")
  assert config == load("lm/tiny.py") == load(str(ROOT / "configs/lm/tiny.py"))


def test_a_file_here_goes_before_the_packaged_one(tmp_path, monkeypatch):
  (tmp_path / "lm").mkdir()
  in_file(tmp_path / "lm", "config.steps = 7", "tiny.py")
  monkeypatch.chdir(tmp_path)
  assert load("lm/tiny.py").steps == 7


# Values.


@pytest.mark.parametrize(
  ("key", "text", "value"),
  [
    ("steps", "1e6", 1_000_000),
    ("steps", "1_000", 1000),
    ("opt.lr", "3", 3.0),
    ("opt.lr", "1e-3", 1e-3),
    ("opt.weight_decay", 0, 0.0),
    ("model.tie_embeddings", "false", False),
    ("model.tie_embeddings", "True", True),
    ("model.tie_embeddings", "0", False),
    ("model.position", "none", "none"),
    ("eval.prompts", "a,b", ("a", "b")),
    ("eval.prompts", "def ", ("def ",)),
    ("eval.prompts", "", ()),
    ("eval.prompts", "()", ()),
    ("eval.prompts", '("a, b", "c")', ("a, b", "c")),
    ("eval.prompts", '["a"]', ("a",)),
    ("eval.prompts", '"a, b"', ("a, b",)),
    (
      "opt.lr_rules",
      '(("bias", 0.5), (".*", 1))',
      (("bias", 0.5), (".*", 1.0)),
    ),
    ("data.opts.text.paths", "x,y", ("x", "y")),
  ],
)
def test_a_text_is_read_as_the_type_of_its_key(key, text, value):
  more = {"data.source": "text"} if key.startswith("data.opts") else {}
  found = resolve(base.get_config(), {key: text} | more).as_dict()
  for part in key.split("."):
    found = found[part]
  want = json.loads(json.dumps(value))  # as_dict has lists for tuples
  assert found == want and type(found) is type(want)


@pytest.mark.parametrize(
  ("key", "value", "kind"),
  [
    ("steps", "1.5", "a whole number"),
    ("steps", "many", "a whole number"),
    ("steps", "True", "a whole number"),
    ("steps", True, "a whole number"),
    ("steps", 2.0, "a whole number"),
    ("steps", "(1,)", "a whole number"),
    ("opt.lr", "fast", "a number"),
    ("opt.lr", "nan", "a number"),
    ("opt.lr", False, "a number"),
    ("model.tie_embeddings", "yes", "true or false"),
    ("model.tie_embeddings", 1, "true or false"),
    ("model.position", 3, "a text"),
    ("model.pattern", 3, "a tuple"),
    ("model.pattern", "(1, 2)", "a tuple"),
    ("model.pattern", "3", "a tuple"),
    ("plugins", "5", "a tuple"),
    ("opt.opts.adamw.b1", "much", "a number"),
    ("model.opts.glu.activation", 3, "a text"),
  ],
)
def test_a_wrong_type_names_key_value_and_type(key, value, kind):
  message = override(key, value)
  assert f"{key}=" in message and f"it must be {kind}" in message


def test_a_file_may_write_a_whole_number_for_a_float(tmp_path):
  ints = in_file(tmp_path, "config.opt.lr = 1", "ints.py")
  floats = in_file(tmp_path, "config.opt.lr = 1.0", "floats.py")
  assert load(str(ints)) == load(str(floats))
  assert load(str(ints)).hash == load(str(floats)).hash


@pytest.mark.parametrize(
  "body",
  [
    "config.opt.lr = 'fast'",
    "config.steps = 1.5",
    "config.model = 3",
    "config.model.opts = 3",
    "config.model.opts.rope = 3",
  ],
)
def test_a_wrong_type_in_a_file_is_one_line(tmp_path, body):
  message = refused(load, str(in_file(tmp_path, body)))
  key = body.removeprefix("config.").split(" =")[0].split(".")[-1]
  assert key in message


def test_a_tree_that_is_not_bases_own_gets_the_types_of_the_keys():
  # A ConfigDict that starts from base keeps types itself; this one does not.
  tree = base.get_config().to_dict()
  tree["model"]["pattern"] = ["attention"]
  tree["opt"] |= {"lr": 1, "weight_decay": "1e-1", "lr_rules": [[".*", 1]]}
  config = resolve(ConfigDict(tree))
  assert config == make(opt__lr=1.0)
  assert config.hash == make(opt__lr=1.0).hash


# Keys.


@pytest.mark.parametrize(
  ("key", "nearest"),
  [
    ("stpes", "steps"),
    ("model.d_modle", "model.d_model"),
    ("opt.learning_rate", None),
    ("modle.d_model", "model.d_model"),
    ("model.d_model.x", "model.d_model"),
    ("model", None),
    ("model.opts", None),
    ("eval.evrey", "eval.every"),
  ],
)
def test_an_unknown_key_is_refused_with_the_nearest(key, nearest):
  message = override(key, "1")
  assert message.startswith(f"{key} is not a config key")
  assert nearest is None or f"did you mean '{nearest}'?" in message


@pytest.mark.parametrize(
  ("body", "message"),
  [
    ("config.stpes = 1", "stpes is not a config key; did you mean 'steps'?"),
    (
      "config.model.d_modle = 1",
      "model.d_modle is not a config key; did you mean 'model.d_model'?",
    ),
    ("config.modle.d_model = 1", "modle"),
    ("config.model.opts.rpoe = {'rope_theta': 1.0}", "'rpoe' is not chosen"),
    (
      "config.model.opts.rope = {'theta': 1.0}",
      "model.opts.rope.theta is not an option; did you mean 'rope_theta'?",
    ),
    ("config.opts = {}", "opts is not a config key"),
    ("del config.steps", "steps is missing; start from configs/base.py"),
    ("del config.opt.lr", "opt.lr is missing; start from configs/base.py"),
  ],
)
def test_an_unknown_or_missing_key_in_a_file_is_refused(
  tmp_path, body, message
):
  assert message in refused(load, str(in_file(tmp_path, body)))


@pytest.mark.parametrize(
  ("key", "message"),
  [
    ("opt.opts.adamw.b3", "is not an option; did you mean 'b"),
    ("model.opts.none.x", "'none' is not chosen in this config (model has"),
    ("model.opts.mlp.activation", "'mlp' is not chosen"),
    ("opt.opts.sgd.momentum", "choose it, or drop the option"),
    ("opt.opts.adamw", "names no option"),
    ("optt.opts.adamw.b1", "is not a config key; did you mean 'opt'?"),
    ("eval.opts.x.y", "'x' is not chosen in this config (eval has nothing)"),
    ("data.opts.bpe.", "is not an option"),
  ],
)
def test_an_option_that_is_not_one_of_a_chosen_entry_is_refused(key, message):
  said = override(key, "0.5")
  assert said.startswith(key) and message in said


@pytest.mark.parametrize(
  ("key", "value", "message"),
  [
    ("model.mixer", "atention", "did you mean 'attention'?"),
    ("model.pattern", "attention,atention", "did you mean 'attention'?"),
    ("model.position", "rpoe", "did you mean 'rope'?"),
    ("model.ffn", "gul", "did you mean 'glu'?"),
    ("model.norm", "rmsnorm", "did you mean 'rms_norm'?"),
    ("model.residual", "pree", "did you mean 'pre'?"),
    ("model.remat", "ful", "did you mean 'full'?"),
    ("model.param_dtype", "float23", "did you mean 'float32'?"),
    ("model.implementation", "refrence", "did you mean 'reference'?"),
    ("opt.name", "adam", "did you mean 'adamw'?"),
    ("opt.schedule", "cosin", "did you mean 'cosine'?"),
    ("data.source", "stdlibs", "did you mean 'stdlib'?"),
    ("data.tokenizer", "bep", "did you mean 'bpe'?"),
    ("objective.name", "next", "did you mean 'next_token'?"),
    ("model.opts.glu.activation", "sillu", "did you mean 'silu'?"),
  ],
)
def test_an_unknown_word_is_refused_with_the_nearest(key, value, message):
  said = override(key, value)
  assert said.startswith(key.replace("pattern", "mixer")) and message in said


@pytest.mark.parametrize(
  ("tokenizer", "option", "value"),
  [
    ("byte_bpe", "pattern", "("),
    ("byte_bpe", "pattern", ""),
    ("bpe", "special_tokens", "a,a"),
    ("unigram", "character_coverage", "2.0"),
    ("words", "min_count", "0"),
  ],
)
def test_a_shared_option_is_told_with_its_whole_key(tokenizer, option, value):
  key = f"data.opts.{tokenizer}.{option}"
  changes = {"data.tokenizer": tokenizer, key: value}
  assert refused(resolve, base.get_config(), changes).startswith(key)


# Combinations.


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (
      {"model.n_heads": 12, "model.n_kv_heads": 5},
      "model.n_heads=12 is not a multiple of model.n_kv_heads=5",
    ),
    (
      {"model.d_model": 30, "model.n_heads": 4},
      "model.d_model=30 is not a multiple of model.n_heads=4",
    ),
    (
      {"data.seq_len": 2048},
      "data.seq_len=2048 is longer than the context model.max_len=1024",
    ),
    (
      {"data.batch_size": 8, "opt.accum_steps": 3},
      "data.batch_size=8 is not a multiple of opt.accum_steps=3",
    ),
    (
      {"steps": 5, "opt.warmup_steps": 6},
      "opt.warmup_steps=6 is more than steps=5",
    ),
    ({"steps": 0}, "steps=0 must be at least 1"),
    ({"model.n_layers": 0}, "model.n_layers=0 must be at least 1"),
    ({"model.ff_dim": -1}, "model.ff_dim=-1 must be positive, or 0"),
    ({"model.pattern": ()}, "model.pattern=() names no mixer"),
    ({"model.dropout": 1.0}, "model.dropout=1.0 must be in [0, 1)"),
    ({"opt.lr": -1.0}, "opt.lr=-1.0 must be at least 0"),
    ({"opt.lr": "1e999"}, "opt.lr=inf must be at least 0 and finite"),
    ({"opt.lr": math.nan}, "opt.lr=nan must be at least 0"),
    (
      {"opt.lr": 1e39},
      "opt.lr=1e+39 must be at least 0, in float32 too, where",
    ),
    ({"opt.weight_decay": math.inf}, "opt.weight_decay=inf must be at least 0"),
    ({"opt.clip_norm": math.nan}, "opt.clip_norm=nan must be at least 0"),
    ({"opt.lr_rules": ((".*", -1.0),)}, "factor of ('.*', -1.0) must be at"),
    (
      {"opt.decay_rules": ((".*", math.inf),)},
      "('.*', inf) must be at least 0",
    ),
    ({"opt.accum_steps": 0}, "opt.accum_steps=0 must be at least 1"),
    ({"opt.lr_rules": (("(", 1.0),)}, "opt.lr_rules: ('(', 1.0) is not"),
    ({"opt.decay_rules": (("x", "y"),)}, "opt.decay_rules='y' has the wrong"),
    ({"opt.decay_rules": (("x",),)}, "opt.decay_rules: ('x',) must have 2"),
    ({"objective.z_loss": -1.0}, "objective.z_loss=-1.0 must not be"),
    ({"objective.label_smoothing": 1.0}, "must be in [0, 1)"),
    ({"data.batch_size": 0}, "data.batch_size=0 must be at least 1"),
    ({"data.prefetch": -1}, "data.prefetch=-1 must be 0 or positive"),
    ({"eval.every": -1}, "eval.every=-1 must be positive, or 0"),
    ({"eval.sample_tokens": 0}, "eval.sample_tokens=0 must be at least 1"),
    ({"eval.temperature": -1.0}, "eval.temperature=-1.0 must be positive"),
    ({"checkpoint.every": -1}, "checkpoint.every=-1 must be positive, or 0"),
    ({"checkpoint.keep": 0}, "checkpoint.keep=0 must be at least 1"),
    ({"log.every": 0}, "log.every=0 must be at least 1"),
    (
      {"model.mixer": "x", "model.pattern": ("y", "z")},
      "mixer is short for pattern=('x',): keep one",
    ),
  ],
  ids=str,
)
def test_what_can_not_be_is_refused_with_key_value_and_rule(changes, message):
  assert message in refused(resolve, base.get_config(), changes)


def test_mixer_is_short_for_a_pattern_of_one():
  short = make(model__mixer="attention")
  assert short == make(model__pattern=("attention",)) == make()
  assert "mixer" not in short.as_dict()["model"]


# Files.


def test_a_missing_file_is_named_with_the_nearest():
  message = refused(load, "configs/lm/tinny.py")
  assert message == (
    "no config file 'configs/lm/tinny.py'; did you mean 'configs/lm/tiny.py'?"
  )


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("x = 1\n", "has no get_config(); see configs/base.py"),
    ("def get_config(:\n", "mine.py:1: SyntaxError: "),
    ("x = 1\ny = 1 / 0\n", "mine.py:2: ZeroDivisionError: division by zero"),
    ("import nothing_of_this_name\n", "mine.py:1: ModuleNotFoundError: "),
    (
      "def get_config():\n  x = 1\n  return y\n",
      "mine.py:3: NameError: name 'y' is not defined",
    ),
    (
      "def get_config():\n  raise ValueError('two\\nlines')\n",
      "mine.py:2: ValueError: two lines",
    ),
    ("def get_config():\n  raise KeyError\n", "mine.py:2: KeyError"),
    ("def get_config():\n  pass\n", "returns NoneType, not a ConfigDict"),
  ],
)
def test_an_error_in_a_config_file_is_told_with_its_line(
  tmp_path, text, message
):
  file = tmp_path / "mine.py"
  file.write_text(text)
  said = refused(load, str(file))
  assert said.startswith(str(file)) and message in said


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"config": ', "3"])
def test_a_json_file_that_is_no_run_is_refused(tmp_path, text):
  file = tmp_path / "config.json"
  file.write_text(text)
  assert "is not the config.json of a run" in refused(load, str(file))


def test_a_run_without_a_namespace_is_refused(tmp_path):
  file = tmp_path / "config.json"
  file.write_text('{"config": {"steps": 3}}')
  assert "is missing; start from configs/base.py" in refused(load, str(file))


# Arguments.


def test_arguments_are_parted_into_path_overrides_and_rest():
  argv = "prove --config=a.py --config.opt.lr=1=2 --steps 3 --config.seed 4"
  assert split_args(argv.split()) == (
    "a.py",
    {"opt.lr": "1=2", "seed": "4"},
    ["prove", "--steps", "3"],
  )
  assert split_args(["--config", "b.py"])[0] == "b.py"
  # Not of the config: left to the command, which refuses it.
  assert split_args(["--configs=x"])[2] == ["--configs=x"]


def test_an_argument_without_a_value_is_refused():
  message = refused(split_args, ["--config.seed"])
  assert message == "--config.seed needs a value: --config.seed=VALUE"


# The resolved config.


def changed(**more):
  return make(
    model__opts__rope__rope_theta=5e5,
    opt__lr_rules=(("bias", 0.5), (".*", 1.0)),
    eval__prompts=("a", "b"),
    **more,
  )


def test_a_resolved_config_comes_back_from_json():
  config = changed(model__mixer="attention", data__source="text")
  again = from_dict(json.loads(json.dumps(config.as_dict())))
  assert again == config and again.hash == config.hash
  assert hash(again.model) == hash(config.model)


def test_a_run_can_be_repeated_from_its_config_json(tmp_path):
  config = changed()
  claim(tmp_path, config, {"vocab_size": 320}, print)
  file = str(tmp_path / "config.json")
  assert load(file) == config
  assert load(file, {"seed": "3"}) == changed(seed=3)


def other(value):
  """A value of the same type that a config may well have."""
  if isinstance(value, bool):
    return not value
  return value * 2 if value else type(value)(1)


@pytest.mark.parametrize(
  ("key", "value", "said"),
  [
    ("model.pattern", "attention/gul", "model.ffn='gul'"),
    ("model.first", "atention/glu", "model.mixer='atention'"),
  ],
)
def test_each_half_of_a_layers_word_is_checked(key, value, said):
  with pytest.raises(UserError, match=re.escape(said)):
    resolve(base.get_config(), {key: value})


WORDS = {
  "model.pattern": ("attention", "attention"),
  "model.first": ("attention",),
  "model.position": "none",
  "model.ffn": "mlp",
  "model.norm": "layer_norm",
  "model.residual": "post",
  "model.param_dtype": "bfloat16",
  "model.compute_dtype": "bfloat16",
  "model.matmul": "fp8",
  "model.remat": "full",
  "model.implementation": "reference",
  "model.dropout": 0.1,
  "model.stochastic_depth": 0.1,
  "model.n_heads": 8,
  "model.head_dim": 48,
  "model.n_kv_heads": 2,
  "model.mup_grows": "n_heads",  # mup_base, which needs it: test_mup.py
  "opt.name": "sgd",
  "opt.schedule": "wsd",
  "opt.layer_decay": 0.5,
  "opt.average": "ema",
  "opt.lr_rules": ((".*", 2.0),),
  "opt.decay_rules": ((".*", 2.0),),
  "data.task": "mqar",
  "data.source": "text",
  "data.mixture": (("stdlib", 1.0, 0.0), ("text", 1.0, 0.0)),
  "data.balance": "epochs",
  "data.clean": ("exact",),
  "data.tokenizer": "bytes",
  "objective.label_smoothing": 0.1,
  "objective.name": None,  # there is one
}
# A short form; what needs another key too (test_mup.py, test_multi_token.py);
# one of which there was none; and what changes no number.
APART = (
  *("model.mixer", "model.mup_base", "model.n_ahead"),
  "model.tie_embed_maps",
  *("objective.name", "data.prefetch", "data.eval_lengths"),
)
KEYS = [
  key
  for key in leaves(base.get_config().to_dict())
  if key.split(".")[0] in ("model", "opt", "data", "objective", "seed", "steps")
  and key not in APART
]
OPTIONS = ["model.opts.rope.rope_theta", "opt.opts.adamw.b1", "seed", "steps"]


@pytest.mark.parametrize("key", [*KEYS, *OPTIONS[:2]])
def test_the_hash_depends_on_all_that_changes_a_number(key):
  value = WORDS.get(key, 0.5)
  if key not in WORDS and ".opts." not in key:
    value = base.get_config()
    for part in key.split("."):
      value = value[part]
    value = other(value)
  changed = resolve(base.get_config(), {key: value})
  assert changed.hash != make().hash


@pytest.mark.parametrize(
  ("key", "value"),
  [
    ("mesh.fsdp", 2),
    ("mesh.rules", "replicated"),
    ("checkpoint.every", 7),
    ("checkpoint.keep", 9),
    ("log.every", 3),
    ("log.progress", False),
  ],
)
def test_the_hash_does_not_depend_on_how_a_run_is_carried_out(key, value):
  changed = resolve(base.get_config(), {key: value})
  assert changed != make() and changed.hash == make().hash


def test_equal_configs_have_equal_hashes():
  assert make() == make() and make().hash == make().hash


# Plugins.

PLUGIN = '''"""Four words of a user's own (This test)."""

import dataclasses

import jax.numpy as jnp
import optax

from ablax.models.ffn import FFN, FFNS
from ablax.models.mixers import MIXERS, Mixer
from ablax.models.positions import POSITIONS, Position
from ablax.train.objectives import OBJECTIVES
from ablax.train.objectives.next_token import NextToken
from ablax.train.optimizers import OPTIMIZERS
from ablax.train.schedules import SCHEDULES


@dataclasses.dataclass(frozen=True)
class Options:
  width: int = 3
  scale: float = 1.0


@MIXERS.register("p_mixer")
class P(Mixer):
  positional = True

  pass


@POSITIONS.register("p_position")
class Q(Position):
  pass


@FFNS.register("p_ffn")
class F(FFN):
  pass


@OPTIMIZERS.register("p_optimizer")
def optimizer(options, specs):
  return optax.scale(options.scale)


@SCHEDULES.register("p_schedule")
def schedule(step, steps, options):
  return options.scale


@OBJECTIVES.register("p_objective")
class O(NextToken):
  pass
'''
CHOSEN = {
  "model.mixer": "p_mixer",
  "model.position": "p_position",
  "model.ffn": "p_ffn",
  "opt.name": "p_optimizer",
  "opt.schedule": "p_schedule",
  "objective.name": "p_objective",
}


@pytest.fixture(autouse=True)
def forget_plugins():
  """What a test registers is gone after it."""
  from ablax.catalog import registries

  before = [(r, dict(r._registered)) for r in registries()]
  yield
  for registry, registered in before:
    registry._registered.clear()
    registry._registered.update(registered)


@pytest.fixture
def plugin(tmp_path):
  file = tmp_path / "mine.py"
  file.write_text(PLUGIN)
  return file


def with_plugin(file, **more):
  return resolve(base.get_config(), CHOSEN | {"plugins": str(file)} | more)


def test_a_plugin_registers_entries_of_every_kind_a_config_builds(plugin):
  config = with_plugin(plugin)
  assert config.model.pattern == ("p_mixer",)
  assert config.plugins == (str(plugin),)
  for registry, key in (
    (MIXERS, "p_mixer"),
    (OPTIMIZERS, "p_optimizer"),
    (SCHEDULES, "p_schedule"),
    (OBJECTIVES, "p_objective"),
  ):
    assert key in list(registry)
    assert registry.citation(key) == ("Four words of a user's own", "This test")


def test_a_plugins_options_are_shown_overridden_and_checked(plugin):
  shown = with_plugin(plugin).as_dict()
  assert shown["model"]["opts"]["p_ffn"] == {"width": 3, "scale": 1.0}
  config = with_plugin(
    plugin,
    **{"model.opts.p_ffn.width": "5", "opt.opts.p_schedule.scale": "2"},
  )
  assert config.model.options("p_ffn").width == 5
  assert config.opt.opts["p_schedule"].scale == 2.0
  for key, value, message in (
    ("model.opts.p_ffn.widht", "5", "did you mean 'width'?"),
    ("opt.opts.p_schedule.scale", "big", "it must be a number"),
    ("model.opts.glu.activation", "relu", "'glu' is not chosen"),
  ):
    with pytest.raises(UserError) as caught:
      with_plugin(plugin, **{key: value})
    assert message in str(caught.value)


def test_a_plugins_path_may_be_relative_and_is_kept_absolute(
  plugin, monkeypatch
):
  monkeypatch.chdir(plugin.parent)
  assert with_plugin("mine.py").plugins == (str(plugin),)


def test_a_plugin_counts_by_its_text_and_not_by_its_path(tmp_path, plugin):
  (tmp_path / "elsewhere").mkdir()
  same = tmp_path / "elsewhere" / "other.py"
  same.write_text(PLUGIN)
  changed = tmp_path / "changed.py"
  changed.write_text(PLUGIN + "# and more\n")
  hashes = [with_plugin(f).hash for f in (plugin, same, changed)]
  assert hashes[0] == hashes[1] != hashes[2]


def test_two_plugins_of_one_stem_both_load(tmp_path):
  files = []
  for name in ("one", "two"):
    (tmp_path / name).mkdir()
    files.append(tmp_path / name / "mine.py")
    files[-1].write_text(
      f'"""{name} (Test)."""\n'
      "from ablax.models.positions import POSITIONS, Position\n"
      f'@POSITIONS.register("{name}")\nclass P(Position):\n  pass\n'
    )
  both = {"plugins": tuple(map(str, files))}
  for name in ("one", "two"):
    config = resolve(base.get_config(), both | {"model.position": name})
    assert config.model.position == name


def test_a_missing_plugin_is_named():
  message = override("plugins", "nowhere/mine.py")
  assert message.startswith("plugins: there is no file ")
  assert message.endswith("nowhere/mine.py")


def test_a_plugin_that_raises_is_told_each_time_with_its_line(tmp_path):
  file = tmp_path / "mine.py"
  file.write_text("x = 1\nraise RuntimeError('no')\n")
  for _ in range(2):  # a half-imported module is not taken for a loaded one
    said = override("plugins", str(file))
    assert said == f"{file}:2: RuntimeError: no"


def test_a_plugin_can_not_take_a_built_ins_name(tmp_path):
  file = tmp_path / "mine.py"
  file.write_text(
    "from ablax.train.schedules import SCHEDULES\n"
    '@SCHEDULES.register("cosine")\ndef mine(step, steps, options):\n'
    "  return 1.0\n"
  )
  said = override("plugins", str(file))
  assert "registers the schedule 'cosine', which ablax has already" in said


def test_an_option_without_a_default_is_refused(tmp_path):
  file = tmp_path / "mine.py"
  file.write_text(
    "import dataclasses\n"
    "from ablax.train.schedules import SCHEDULES\n"
    "@dataclasses.dataclass(frozen=True)\nclass Options:\n  scale: float\n"
    '@SCHEDULES.register("mine")\ndef mine(step, steps, options):\n'
    "  return 1.0\n"
  )
  changes = {"plugins": str(file), "opt.schedule": "mine"}
  said = refused(resolve, base.get_config(), changes)
  assert "opt.opts.mine.scale has no default" in said
