"""lm-evaluation-harness with our models in it (Gao et al. 2024).

  python -m ablax.harness --model ablax --model_args workdir=RUN \\
    --tasks code_choice --include_path .

in examples/tasks is `lm_eval` itself, which cannot find a model that no one has
imported; every flag is its own. `ablax eval RUN --lm-eval=TASK.yaml` runs local
tasks without it.
"""

import contextlib
import functools
import importlib.util
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from .__main__ import guarded
from .errors import UserError


def find(files: Sequence[str] = ()) -> None:
  """Raises UserError where a file is not there, or lm-eval not installed."""
  for file in files:
    if not pathlib.Path(file).is_file():
      raise UserError(f"--lm-eval={file}: there is no such file")
  if importlib.util.find_spec("lm_eval") is None:
    raise UserError(
      "this needs lm-evaluation-harness; pip install 'lm-eval>=0.4.13'"
    )


@functools.cache
def register() -> type:
  """Makes "ablax" a model that the harness knows by name."""
  find()
  from lm_eval.api.registry import register_model  # pyright: ignore

  from .infer.lm_eval_model import AblaxLM
  from .train.checkpoint import load_model

  @register_model("ablax")
  class Ablax(AblaxLM):
    """A run's model, from --model_args workdir=RUN[,step=N][,rows=N]."""

    def __init__(
      self,
      workdir: str,
      step: int | None = None,
      rows: int | None = None,
      batch_size: int | str = 1,
      max_batch_size: int | None = None,
      device: str | None = None,
    ):
      del max_batch_size, device  # JAX chooses
      # 1 is the harness's default, and no one's wish.
      if rows is None and str(batch_size).isdecimal() and int(batch_size) > 1:
        rows = int(batch_size)
      config, params, tokenizer = load_model(workdir, step)
      super().__init__(config.model, params, tokenizer, rows)

  return Ablax


def _go_offline() -> None:
  """Keeps this process from Hugging Face's hub."""
  os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
  # Who is imported already, as by data.source=hf, has read the variables.
  for name in ("huggingface_hub.constants", "datasets.config"):
    if module := sys.modules.get(name):
      vars(module)["HF_HUB_OFFLINE"] = True


def run_tasks(model: Any, files: Sequence[str]) -> dict[str, Any]:
  """Runs local YAML tasks, each in its folder, with no network.

  Args:
    model: an `AblaxLM`.

  Returns:
    task -> metric -> value, standard errors included.

  Raises:
    UserError: a file that is no task.
  """
  _go_offline()
  # A pool of processes would fork JAX.
  os.environ["DISABLE_MULTIPROC"] = "1"
  from lm_eval import simple_evaluate  # pyright: ignore
  from lm_eval.tasks import TaskManager  # pyright: ignore

  tasks: list[Any] = []
  for file in map(pathlib.Path, files):
    # So that data_files may stand beside their task.
    with contextlib.chdir(file.parent):
      try:
        loaded = TaskManager(include_defaults=False).load([file.name])
      except Exception as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
          f"--lm-eval={file} is not a task that lm-eval can load: {line[:200]}"
        ) from error
    tasks += loaded["tasks"].values()
  evaluate: Any = simple_evaluate
  results = evaluate(model, tasks=tasks, bootstrap_iters=1000)
  return {
    task: {
      metric.removesuffix(",none"): value
      for metric, value in found.items()
      if isinstance(value, int | float)
    }
    for task, found in results["results"].items()
  }


def main(argv: list[str]) -> int:
  register()
  from lm_eval.__main__ import cli_evaluate  # pyright: ignore

  sys.argv = ["lm_eval", *argv]
  cli_evaluate()
  return 0


if __name__ == "__main__":
  sys.exit(guarded(main, sys.argv[1:]))
