"""Parameters, FLOPs and bytes of a config, from its own traced program.

Nothing here knows a technique: FLOPs are those of every matmul in the traced
program, activations what its backward pass keeps.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from ..errors import UserError
from ..kernels.flops import needed
from ..models import lm
from ..models.state import state_bytes
from .config import Config
from .objectives import Batch
from .setup import Setup, provisional_setup
from .step import make_objective


@dataclasses.dataclass(frozen=True)
class Accounts:
  """Sizes of one experiment.

  Attributes:
    params: numbers in all parameters.
    embedding_params: those of the embedding and output tables.
    param_bytes, opt_bytes: of parameters and of optimizer state.
    forward_flops, train_flops: per token of a row of `seq_len`; training is
      three times forward, recomputation not counted.
    executed_flops: per token, what the update really runs, but that tiles of
      attention which a mask skips are counted.
    activation_bytes: kept for the backward pass of one microbatch.
    decode_state_bytes: for one sequence of `max_len` tokens; None where the
      model can't decode.
  """

  params: int
  embedding_params: int
  param_bytes: int
  opt_bytes: int
  forward_flops: float
  train_flops: float
  executed_flops: float
  activation_bytes: int
  decode_state_bytes: int | None

  @property
  def memory_bytes(self) -> int:
    """Parameters, gradients in fp32, optimizer state and activations.

    Of one run, and roughly: a compiler keeps some things more, some less.
    """
    kept = self.param_bytes + self.opt_bytes + self.activation_bytes
    return kept + 4 * self.params


def memory_bytes(setup: Setup) -> int:
  """`Accounts.memory_bytes` alone, which needs no FLOPs."""
  abstract = setup.abstract()
  kept = _tree_bytes(abstract.params) + _tree_bytes(abstract.opt_state)
  return kept + activation_bytes(setup) + 4 * count_params(setup)


def memory_of(config: Config, seeds: int = 1) -> int:
  """Rough bytes that `seeds` runs of the config take in one program.

  Reads no data: where the tokenizer is not trained yet, its size is taken from
  the config.
  """
  return seeds * memory_bytes(provisional_setup(config))


def count_flops(jaxpr: core.Jaxpr) -> int:
  """Multiplications and additions of every matmul, loops included."""
  total = 0
  for equation in jaxpr.eqns:
    if equation.primitive.name == "dot_general":
      (contracted, _), _ = equation.params["dimension_numbers"]
      lhs = _shape(equation.invars[0])
      out = _shape(equation.outvars[0])
      total += 2 * math.prod(out) * math.prod(lhs[i] for i in contracted)
      continue
    inner = []
    for value in equation.params.values():
      for item in value if isinstance(value, tuple | list) else (value,):
        if isinstance(item, core.ClosedJaxpr):
          inner.append(count_flops(item.jaxpr))
        elif isinstance(item, core.Jaxpr):
          inner.append(count_flops(item))
    if equation.primitive.name == "cond":
      total += max(inner, default=0)
    elif equation.primitive.name == "ragged_dot_general":
      x, w = map(_shape, equation.invars[:2])
      total += 2 * math.prod(x) * w[-1]
    elif "jaxpr" in equation.params and "name" in equation.params:
      shapes = [getattr(v.aval, "shape", ()) for v in equation.invars]
      total += needed(equation.params["name"], sum(inner), shapes)
    else:
      times = equation.params.get("length", 1)
      total += sum(inner) * (times if equation.primitive.name == "scan" else 1)
  return total


def _shape(variable: Any) -> tuple[int, ...]:
  return variable.aval.shape


def saved_bytes(function, *args) -> int:
  """Bytes that the backward pass of `function` needs besides its inputs."""
  traced = jax.make_jaxpr(lambda *a: jax.vjp(function, *a))(*args).jaxpr
  given = {id(v) for v in traced.invars}
  kept = {
    id(v): v.aval
    for v in traced.outvars
    if isinstance(v, core.Var) and id(v) not in given
  }
  return sum(_bytes(aval) for aval in kept.values())


def _bytes(aval: Any) -> int:
  return math.prod(aval.shape) * jnp.dtype(aval.dtype).itemsize


def _tree_bytes(tree: Any) -> int:
  return sum(_bytes(a) for a in jax.tree.leaves(tree))


def abstract_batch(rows: int, seq_len: int) -> Batch:
  """Shapes of a batch."""
  ints = jax.ShapeDtypeStruct((rows, seq_len), jnp.int32)
  return {
    "tokens": ints,
    "targets": ints,
    "segment_ids": ints,
    "positions": ints,
    "weights": jax.ShapeDtypeStruct((rows, seq_len), jnp.float32),
    "example_ids": jax.ShapeDtypeStruct((rows,), jnp.int32),
  }


def accounts(setup: Setup) -> Accounts:
  """Counts, without making an array."""
  config = setup.config
  abstract = setup.abstract()
  batch = _microbatch(config)
  objective = make_objective(config)
  key = jax.eval_shape(lambda: jax.random.key(0))

  def forward(params, batch, key=None):
    apply = functools.partial(lm.apply, config.model)
    return objective(apply, params, batch, key).sum

  params = abstract.params
  run_grad = jax.make_jaxpr(jax.grad(forward))(params, batch, key).jaxpr
  sizes = {
    name: math.prod(leaf.shape)
    for name, leaf in params.items()
    if hasattr(leaf, "shape")
  }
  try:
    decode = state_bytes(config.model, 1, config.model.max_len)
  except UserError:
    decode = None
  once = forward_flops(setup)
  return Accounts(
    params=count_params(setup),
    embedding_params=sum(sizes.values()),
    param_bytes=_tree_bytes(params),
    opt_bytes=_tree_bytes(abstract.opt_state),
    forward_flops=once,
    train_flops=3 * once,
    executed_flops=count_flops(run_grad) / batch["tokens"].size,
    activation_bytes=activation_bytes(setup),
    decode_state_bytes=decode,
  )


def activation_bytes(setup: Setup) -> int:
  """Kept for the backward pass of one microbatch."""
  config = setup.config
  objective = make_objective(config)
  batch = batch_zeros(_microbatch(config))

  def forward(params):
    apply = functools.partial(lm.apply, config.model)
    return objective(apply, params, batch, None).sum

  return saved_bytes(forward, setup.abstract().params)


def count_params(setup: Setup) -> int:
  """Numbers in all parameters."""
  return sum(spec.size for spec in jax.tree.leaves(setup.specs))


def forward_flops(setup: Setup) -> float:
  """Per token of a row: what the algorithms need.

  Causal attention counts as whole, as it is usual; a window, or a mask, as the
  keys that a query may see; an expert as the tokens that it gets, or has room
  for. What is executed may be less, or be computed twice.
  """
  config = setup.config
  model = dataclasses.replace(config.model, implementation="reference")
  objective = make_objective(config)
  batch = _microbatch(config)

  def forward(params, batch):
    return objective(functools.partial(lm.apply, model), params, batch, None)

  run = jax.make_jaxpr(forward)(setup.abstract().params, batch)
  return count_flops(run.jaxpr) / batch["tokens"].size


def _microbatch(config: Config) -> Batch:
  rows = config.data.batch_size // config.opt.accum_steps
  return abstract_batch(rows, config.data.seq_len)


def batch_zeros(batch: Batch) -> Batch:
  return jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), batch)
