"""What a run shows when it is done: figures, a comparison, samples."""

import pathlib
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from ..data.config import DataConfig
from ..data.prepare import Prepared
from ..errors import UserError
from ..infer.sampling import Sampling, generate
from ..models.param import Params
from .config import Config
from .figures import plot_detail, plot_loss
from .task_metrics import show


def draw(workdir: pathlib.Path, prepared: Prepared, data: DataConfig) -> None:
  """Draws the run's figures."""
  references = {} if data.task else prepared.references
  plot_loss(workdir, workdir.name, references)
  plot_detail(workdir, workdir.name)


def compare(
  heldout: Mapping[str, Mapping[str, float]],
  prepared: Prepared,
  data: DataConfig,
  console: Console,
) -> None:
  """Prints the last evaluation: bits per byte, or the scores of a task.

  Args:
    heldout: name of a model -> its evaluation.
  """
  console.print()
  if data.task:
    for name, values in heldout.items():
      if len(heldout) > 1:
        console.print(name, markup=False)
      show(console, data, values)
    return
  console.print(f"held-out bits per byte ({prepared.heldout_bytes:,} bytes)")
  bits = {}
  for name, values in heldout.items():
    bits[name] = values["bits_per_byte"]
    if len(prepared.parts) > 1 and len(heldout) == 1:
      bits |= {
        f"on {part.name}": values[f"{part.name}/bits_per_byte"]
        for part in prepared.parts
      }
    if len(heldout) == 1:
      bits |= {
        f"rows of {n}": values[f"len={n}/bits_per_byte"] for n in data.lengths
      }
  for name, value in {**bits, **prepared.references}.items():
    console.print(f"  {name:<12} {value:.3f}", markup=False)


def sample(
  config: Config, params: Params, tokenizer: Any, console: Console
) -> None:
  """Continues the config's prompts with these weights."""
  sampling = Sampling(
    temperature=config.eval.temperature, max_tokens=config.eval.sample_tokens
  )
  try:
    samples = generate(
      config.model, params, tokenizer, config.eval.prompts, sampling
    )
  except UserError as error:
    console.print(f"no samples: {error}", markup=False)
    return
  for prompt, text in zip(config.eval.prompts, samples, strict=True):
    console.rule(f"{prompt!r} goes on", align="left")
    console.print(prompt + text.text, markup=False)
