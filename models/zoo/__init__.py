"""ZOO: published architectures, by name, as overrides of a config.

    config = resolve(base.get_config(), ZOO["llama2_7b"])
    ablax train --config=configs/zoo.py:llama2_7b --dry-run

An entry is the whole shape and nothing of how it is trained, so that it may be
an arm of an ablation too. Each has exactly as many parameters as the released
weights (RetNet, of which none were, as its paper's formula); a family that
ablax can't build so is not here.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ...errors import UserError, nearest
from . import deepseek, gemma, gpt, hybrid, llama, mamba, qwen, retnet, rwkv

ZOO: Mapping[str, Mapping[str, Any]] = MappingProxyType(
  gpt.SHAPES
  | llama.SHAPES
  | qwen.SHAPES
  | gemma.SHAPES
  | deepseek.SHAPES
  | mamba.SHAPES
  | retnet.SHAPES
  | hybrid.SHAPES
  | rwkv.SHAPES
)


def architecture(name: str) -> Mapping[str, Any]:
  """The overrides of a name: dotted key -> value.

  Raises:
    UserError: there is no such name.
  """
  if name not in ZOO:
    raise UserError(
      f"{name!r} is no architecture of models/zoo{nearest(name, ZOO)}"
    )
  return ZOO[name]
