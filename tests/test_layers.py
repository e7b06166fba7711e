"""Imports go down only, and each folder keeps to what is its own."""

import ast
import pathlib
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
FOLDERS = (
  "models",
  "train",
  "parallel",
  "kernels",
  "configs",
  "data",
  "ablate",
  "infer",
  "apps",
)
FILES = sorted(
  file
  for folder in ("ablax", *FOLDERS)
  for file in (ROOT / folder).rglob("*.py")
)

# Who may import whom, besides itself and "base" (errors, registry, version).
BELOW = {
  "base": set(),
  "commands": {"ablate", "train", "infer", "models", "kernels", "parallel"}
  | {"data", "configs"},
  "ablate": {"train", "infer", "models", "kernels", "parallel", "data"}
  | {"configs"},
  "train": {"infer", "models", "kernels", "parallel", "data", "configs"},
  "apps": {"infer", "models", "kernels"},
  "infer": {"models", "kernels", "parallel"},
  "models": {"kernels", "parallel"},
  "kernels": {"parallel"},
  "parallel": set(),
  "data": set(),
  "configs": {"models"},
}
BASE = {"ablax", "ablax.errors", "ablax.registry"}

# "data" is many things; these are nothing but axes of the mesh.
MESH_AXES = {"fsdp", "tensor", "sequence", "expert", "stage"}
OUTSIDE = {"time", "pathlib", "logging", "argparse", "os"}
MAX_LINES = 400


def names(file: pathlib.Path) -> str:
  return file.relative_to(ROOT).as_posix()


def module_of(file: pathlib.Path) -> str:
  parts = file.relative_to(ROOT).with_suffix("").parts
  parts = parts if parts[0] == "ablax" else ("ablax", *parts)
  return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer_of(module: str) -> str:
  if module in BASE:
    return "base"
  folder = module.split(".")[1]
  return folder if folder in FOLDERS else "commands"


def imports(tree: ast.AST, package: str) -> Iterator[tuple[str, str]]:
  """Yields (module, name) of every import, wherever it stands."""
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      yield from ((alias.name, "") for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      module = node.module or ""
      if node.level:
        parts = package.split(".")
        parts = parts[: len(parts) - node.level + 1]
        module = ".".join([*parts, *filter(None, [module])])
      yield from ((module, alias.name) for alias in node.names)


def package_of(file: pathlib.Path) -> str:
  module = module_of(file)
  return module if file.stem == "__init__" else module.rpartition(".")[0]


def is_module(name: str) -> bool:
  path = pathlib.Path(*name.split("."))
  inside = ROOT / path.relative_to("ablax")
  return any(
    p.with_suffix(".py").is_file() or p.is_dir() for p in (ROOT / path, inside)
  )


def upward(source: str, file: pathlib.Path) -> list[str]:
  """The imports of a file that its layer may not have."""
  here, wrong = layer_of(module_of(file)), []
  for module, name in imports(ast.parse(source), package_of(file)):
    if module.split(".")[0] != "ablax":
      continue
    if name and is_module(f"{module}.{name}"):
      module = f"{module}.{name}"  # from ..models import lm
    if module in ("ablax.__main__", "ablax.flags"):
      # What every command wears.
      ok = module == "ablax.flags" or name == "guarded"
      ok = ok and file.parent.name in ("ablax", *COMMAND_FOLDERS)
      ok = ok and (here == "commands" or file.stem == "__main__")
    else:
      there = layer_of(module)
      ok = there in (here, "base") or there in BELOW[here]
    if not ok:
      wrong.append(f"{names(file)} imports {module} {name}".strip())
  return wrong


COMMAND_FOLDERS = ("train", "ablate")


@pytest.mark.parametrize("file", FILES, ids=names)
def test_imports_go_down_only(file):
  assert not upward(file.read_text(encoding="utf-8"), file)


@pytest.mark.parametrize(
  ("file", "line"),
  [
    ("models/lm.py", "from ..train import step"),
    ("models/lm.py", "from .. import data"),
    ("models/ffn/glu.py", "from ...infer.sampling import generate"),
    ("kernels/dispatch.py", "import ablax.models.lm"),
    ("kernels/cross_entropy/xla.py", "def f():\n  from ...models import lm"),
    ("infer/sampling.py", "from ..data.tokenizers import TOKENIZERS"),
    ("infer/sampling.py", "from ..train.checkpoint import load_model"),
    ("data/pipeline.py", "from ..parallel.rules import Layout"),
    ("parallel/rules.py", "from ..models.param import path_of"),
    ("parallel/mesh.py", "from ..kernels import dispatch"),
    ("ablax/registry.py", "from . import catalog"),
    ("ablax/errors.py", "from .models.lm import apply"),
    ("train/loop.py", "from ..__main__ import guarded"),
    ("train/__main__.py", "from ..__main__ import COMMANDS"),
    ("train/loop.py", "from .. import sample"),
    ("models/lm.py", "from ..configs import base"),
  ],
)
def test_an_upward_import_is_found(file, line):
  assert upward(line, ROOT / file)


@pytest.mark.parametrize(
  ("file", "line"),
  [
    ("train/loop.py", "from ..data.pipeline import train_batches"),
    ("train/__main__.py", "from ..__main__ import guarded"),
    ("train/workdir.py", "from .. import __version__"),
    ("ablax/sample.py", "from .__main__ import guarded"),
    ("models/lm.py", "from ..parallel.rules import constrain"),
  ],
)
def test_a_downward_import_is_allowed(file, line):
  assert not upward(line, ROOT / file)


@pytest.mark.parametrize("file", FILES, ids=names)
def test_only_models_import_flax_linen(file):
  if file.is_relative_to(ROOT / "models"):
    return
  found = imports(ast.parse(file.read_text(encoding="utf-8")), "ablax")
  assert not [
    m for m, name in found if f"{m}.{name}".startswith("flax.linen")
  ], f"{names(file)}: flax.linen belongs in models/"


@pytest.mark.parametrize(
  "file",
  [f for f in FILES if names(f).split("/")[0] in ("models", "kernels")],
  ids=names,
)
def test_models_and_kernels_know_no_time_files_logs_or_flags(file):
  found = imports(ast.parse(file.read_text(encoding="utf-8")), "ablax")
  assert not OUTSIDE & {module.split(".")[0] for module, _ in found}


def docstrings(tree: ast.AST) -> set[int]:
  return {
    id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)
  }


def mesh_axis_names(source: str) -> list[str]:
  tree = ast.parse(source)
  skip = docstrings(tree)
  return [
    f"line {node.lineno}: {node.value!r}"
    for node in ast.walk(tree)
    if isinstance(node, ast.Constant)
    and isinstance(node.value, str)
    and node.value in MESH_AXES
    and id(node) not in skip
  ]


@pytest.mark.parametrize(
  "file",
  [f for f in FILES if names(f).split("/")[0] not in ("parallel", "configs")],
  ids=names,
)
def test_mesh_axes_are_named_in_parallel_and_configs_alone(file):
  assert not mesh_axis_names(file.read_text(encoding="utf-8"))


def test_a_mesh_axis_name_is_found_and_a_docstring_is_not():
  assert mesh_axis_names("P('fsdp')") == ["line 1: 'fsdp'"]
  assert mesh_axis_names("f(axis_name='stage')")
  assert not mesh_axis_names("def f():\n  'fsdp'\n")
  assert not mesh_axis_names("constrain(x, 'batch', 'seq')")


@pytest.mark.parametrize("folder", [*FOLDERS, "tests", "benchmarks"])
def test_a_top_folder_has_no_init_that_would_shadow_another_package(folder):
  assert not (ROOT / folder / "__init__.py").exists()


@pytest.mark.parametrize("file", FILES, ids=names)
def test_a_file_holds_one_idea(file):
  n = len(file.read_text(encoding="utf-8").splitlines())
  assert n <= MAX_LINES, (
    f"{names(file)} has {n} lines, more than {MAX_LINES}: it holds two ideas,"
    " so make two files of it"
  )


def test_every_folder_that_is_installed_is_walked():
  setup = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
  (installed,) = (
    ast.literal_eval(node.value)
    for node in setup.body
    if isinstance(node, ast.Assign) and node.targets[0].id == "FOLDERS"
  )
  assert set(installed) <= set(FOLDERS)
  assert len(FILES) > 60
