"""Starting from another run's weights: `init_from`, which is not a resume."""

import pathlib
from typing import Any

import jax
import numpy as np

from ..errors import UserError
from ..models.param import Params, path_of
from .checkpoint import check_tokenizer, load_state
from .optimizers import eval_params
from .setup import Setup
from .upcycle import upcycle
from .workdir import read_run


def warm_start(setup: Setup, tokenizer: Any, fresh: Params) -> Any:
  """The parameters of another run, on this run's mesh.

  Args:
    fresh: this run's own first ones, for what that run did not have.
  """
  config = setup.config
  source = pathlib.Path(config.init_from).expanduser()
  check_tokenizer("of this config", tokenizer, read_run(source)["tokenizer"])
  other, state = load_state(source)
  params = eval_params(other.opt, state.opt_state, state.params)
  specs = _flat(setup.specs)
  found = upcycle(_flat(params), _flat(fresh), specs)
  ours = {k: v.shape for k, v in specs.items()}
  theirs = {k: v.shape for k, v in found.items()}
  for path in sorted(ours | theirs):
    if ours.get(path) != theirs.get(path):
      raise UserError(
        f"init_from={config.init_from}: parameter {path} is"
        f" {theirs.get(path)} there and {ours.get(path)} here; use the same"
        " model.* as that run"
      )
  return jax.tree_util.tree_map_with_path(
    lambda path, spec, sharding: jax.device_put(
      np.asarray(found[path_of(path)], spec.dtype), sharding
    ),
    setup.specs,
    setup.shardings.params,
  )


def _flat(tree: Any) -> dict[str, Any]:
  leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
  return {path_of(path): leaf for path, leaf in leaves}
