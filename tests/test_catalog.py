"""The catalog: every technique with its paper, file and evidence."""

import importlib
import json
import pathlib

import pytest

from ablax import catalog
from ablax.__main__ import COMMANDS
from ablax.errors import UserError
from ablax.features import FEATURES
from ablax.models.routers import ROUTERS
from ablax.train.config import load
from ablax.train.schedules import SCHEDULES

ROOT = pathlib.Path(__file__).resolve().parents[1]
ROWS = catalog.rows()
KINDS = {
  "filter",
  "constraint",
  "decoding",
  "source",
  "cleaning step",
  "corpus",
  "task",
  "tokenizer",
  "mixer",
  "position",
  "norm",
  "ffn",
  "router",
  "matmul",
  "objective",
  "optimizer",
  "schedule",
  "feature",
  "average",
  "evaluation",
}


# Parts of a model: what each is compared with is said in the catalog.
COMPARED = ("mixer", "position", "norm", "ffn", "router")


def names(row):
  return f"{row.kind}:{row.name}"


@pytest.mark.parametrize("row", ROWS, ids=names)
def test_every_entry_names_technique_paper_and_file(row):
  assert row.technique and (row.paper or row.word.startswith("ablax "))
  assert (ROOT / row.file).is_file()
  assert row.kind == "feature" or row.name in row.word
  # It would end a cell of the README's table.
  assert "|" not in row.word + row.technique + row.paper


@pytest.mark.parametrize("row", ROWS, ids=names)
def test_every_entry_has_evidence(row):
  assert row.evidence, f"no test says PROVES = ('{names(row)}',)"
  if row.kind in COMPARED:
    assert row.against, f"{row.evidence} say(s) AGAINST nothing"
  for file in filter(None, row.evidence.split(",")):
    assert (ROOT / file).is_file()


WORDS = [feature.word for feature in FEATURES.values()]


def test_no_two_features_have_one_word():
  shared = {word for word in WORDS if WORDS.count(word) > 1}
  assert not shared


@pytest.mark.parametrize("word", [w for w in WORDS if w.startswith("ablax ")])
def test_the_word_of_a_feature_may_be_a_command(word, capsys):
  command, _, flag = word.removeprefix("ablax ").partition(" ")
  flag, _, value = flag.partition("=")
  main = importlib.import_module(COMMANDS[command][0]).main
  with pytest.raises(SystemExit) as exit_:
    main(["--help"])
  assert exit_.value.code == 0 and flag in capsys.readouterr().out
  assert not value or (ROOT / value).is_file()


MOE = {"moe", *ROUTERS}


@pytest.mark.parametrize(
  "word", [w for w in WORDS if not w.startswith("ablax ")]
)
def test_the_word_of_a_feature_is_a_config_key(word):
  key, value = word.split("=")
  # The noise scale compares microbatches; muP asks how heads follow; a stretch
  # is for rows that are scored beside training's.
  needed = {
    "opt.accum_steps": "2",
    "model.mup_grows": "n_heads",
    "data.eval_lengths": "512",
  }
  if (entry := key.removeprefix("model.opts.").split(".")[0]) in MOE:
    needed["model.ffn"] = "moe"
    if entry in ROUTERS:
      needed["model.opts.moe.router"] = entry
  load("configs/lm/tiny.py", needed | {key: value})


def test_nothing_is_proven_that_is_not_registered():
  assert set(catalog.proofs()) <= {names(row) for row in ROWS}


def test_json_is_for_machines_and_lists_all_kinds(capsys):
  assert catalog.main(["--json"]) == 0
  rows = json.loads(capsys.readouterr().out)
  assert {row["kind"] for row in rows} == KINDS
  fields = ["kind", "name", "word", "technique", "paper", "file"]
  fields += ["against", "evidence"]
  assert all(list(row) == fields for row in rows)
  n_entries = sum(len(r.own) for r in catalog.registries())
  assert len(rows) == n_entries + len(FEATURES)


def test_a_plugin_is_not_in_the_table(monkeypatch):
  monkeypatch.setitem(SCHEDULES._registered, "mine", lambda *a: 1.0)
  assert "mine" in SCHEDULES
  assert catalog.rows() == ROWS


def test_the_plain_table_shows_the_evidence(capsys, monkeypatch):
  monkeypatch.setenv("COLUMNS", "300")
  assert catalog.main([]) == 0
  out = capsys.readouterr().out
  assert "evidence" in out and "tests/models/test_rope.py" in out


def test_the_table_of_the_readme_is_fresh(capsys):
  assert catalog.main(["--check", str(ROOT / "README.md")]) == 0, (
    capsys.readouterr().out
  )


def test_a_stale_table_is_told_and_written_anew(tmp_path, capsys):
  file = tmp_path / "README.md"
  text = f"# before\n{catalog.BEGIN}\nan old row\n{catalog.END}\nafter\n"
  file.write_text(text)
  assert catalog.main(["--check", str(file)]) == 1
  assert "the table is stale; run ablax catalog --write=" in (
    capsys.readouterr().out
  )
  assert file.read_text() == text
  assert catalog.main(["--write", str(file)]) == 0
  assert catalog.main(["--check", str(file)]) == 0
  new = file.read_text()
  assert new.startswith("# before\n") and new.endswith("\nafter\n")
  assert catalog.markdown() in new and "an old row" not in new
  assert "evidence" not in new


def test_a_file_without_marks_or_that_is_not_there_is_refused(tmp_path):
  file = tmp_path / "README.md"
  for text in (None, "", catalog.BEGIN):
    if text is not None:
      file.write_text(text)
    with pytest.raises(UserError) as caught:
      catalog.main(["--write", str(file)])
    assert str(file) in str(caught.value)


def test_a_wheel_has_no_evidence_and_files_without_its_folder(
  tmp_path, monkeypatch
):
  class Module:
    __file__ = str(tmp_path / "ablax" / "models" / "x.py")

  monkeypatch.setattr(catalog, "ROOT", tmp_path)
  # Somebody else's folder beside the package.
  (tmp_path / "tests").mkdir()
  (tmp_path / "tests" / "test_x.py").write_text('PROVES = ("ffn:glu",)\n')
  for registry in catalog.registries():
    monkeypatch.setattr(registry, "module", lambda name: Module)
    monkeypatch.setattr(registry, "citation", lambda name: ("t", "p"))
  for row in catalog.rows():
    assert row.kind == "feature" or row.file == "models/x.py"
    assert row.evidence == ""


@pytest.mark.parametrize(
  "registry", catalog.registries(), ids=lambda registry: registry.kind
)
def test_a_plugin_can_not_take_a_built_ins_name(registry):
  name = next(iter(registry))
  with pytest.raises(UserError) as caught:
    registry.register(name)
  assert f"the {registry.kind} {name!r}, which ablax has already" in (
    str(caught.value)
  )
