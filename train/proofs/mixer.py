"""Proof: the mixer contract, for each mixer of a config.

What an entry declares (`causal`, `batch_dependent`, `decodable`) is what is
checked, and a false declaration fails.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from ...errors import UserError
from ...models.config import ModelConfig
from ...models.context import Context
from ...models.mixers import MIXERS
from ...models.once import Alone
from ...models.param import init_params, path_of, specs
from ...parallel.mesh import MeshConfig, make_mesh
from ...parallel.rules import RULES, Layout, use
from ..config import Config
from . import LEAK_TOLERANCE, Check

# fp32: other chunks sum in another order. Relative to the largest output.
CHUNK_TOLERANCE = 2e-5
# bf16: 2^-8 for each rounding, a handful of them in a row.
BF16_TOLERANCE = 6e-2


def prove(config: Config) -> Iterator[Check]:
  """Runs the contract on every mixer of the model."""
  for name in config.model.mixers:
    for check in contract(name, config.model):
      yield check._replace(claim=f"{name}: {check.claim}")


def contract(
  name: str, config: ModelConfig, length: int = 19, meshes: bool = True
) -> Iterator[Check]:
  """Yields the contract's checks for one mixer; `length` is odd on purpose.

  Args:
    meshes: also compare with eight devices, which takes half of the time.
  """
  entry = MIXERS[name]
  B, T, D = 3, length, config.d_model
  config = dataclasses.replace(
    config, compute_dtype="float32", matmul="default", dropout=0.0
  )
  mixer = Alone(config, name)
  rng = np.random.default_rng(0)
  x_BTD = jnp.asarray(rng.normal(size=(B, T, D)), jnp.float32)
  slots_BT = jnp.broadcast_to(jnp.arange(T), (B, T))
  # One document in each row, said in so many words: what follows compiles once
  # for whole rows and packed ones.
  ctx = Context(slots_BT, jnp.ones_like(slots_BT))
  declared = specs(mixer, x_BTD, ctx)
  params = init_params(declared, jax.random.key(0))

  @functools.partial(jax.jit, static_argnames="config")
  def run(params, x, ctx, state=None, config=config):
    return Alone(config, name).apply({"params": params}, x, ctx, state)

  y_BTD, _ = run(params, x_BTD, ctx)
  yield Check(
    "one output for each token, of its shape and dtype",
    y_BTD.shape == x_BTD.shape and y_BTD.dtype == x_BTD.dtype,
    f"{y_BTD.shape} {y_BTD.dtype}",
  )
  error = _difference(y_BTD, run(params, x_BTD, Context(slots_BT))[0])
  yield Check(
    "without segments a row is one document",
    error <= CHUNK_TOLERANCE,
    f"relative difference {error:.1e}, allowed {CHUNK_TOLERANCE:.0e}",
  )

  yield from _axes(declared)
  yield from _who_sees_whom(entry, run, params, x_BTD, ctx)

  grads = jax.jit(jax.grad(lambda p: (run(p, x_BTD, ctx)[0] ** 2).sum()))(
    params
  )
  finite = all(bool(jnp.isfinite(g).all()) for g in jax.tree.leaves(grads))
  dead = [
    path_of(path)
    for path, g in jax.tree_util.tree_flatten_with_path(grads)[0]
    if not float(jnp.abs(g).max())
  ]
  yield Check(
    "gradients are finite, and reach every parameter",
    finite and not dead,
    f"{len(jax.tree.leaves(grads))} parameters"
    + (f", none for {', '.join(dead)}" if dead else ""),
  )

  half = dataclasses.replace(config, compute_dtype="bfloat16")
  y_half = run(params, x_BTD.astype(jnp.bfloat16), ctx, config=half)[0]
  error = _difference(y_BTD, y_half)
  yield Check(
    "bfloat16 is close to float32",
    error <= BF16_TOLERANCE,
    f"relative difference {error:.1e}, allowed {BF16_TOLERANCE:.0e}",
  )
  yield from _decoding(entry, config, run, params, x_BTD, ctx, y_BTD)
  if meshes:
    yield from _meshes(config, run, declared, params)


def _difference(a, b) -> float:
  a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
  return float(np.abs(a - b).max() / np.abs(a).max())


def _axes(declared) -> Iterator[Check]:
  leaves = jax.tree_util.tree_flatten_with_path(declared)[0]
  mesh = make_mesh(MeshConfig.of(), jax.devices()[:1])
  for table in RULES:
    layout, wrong = Layout.of(mesh, table), ""
    for path, spec in leaves:
      try:
        layout.param(path_of(path), spec.shape, spec.axes)
      except UserError as error:
        wrong = str(error)
    yield Check(
      f"every parameter has its place in the rules table {table!r}",
      not wrong,
      wrong or f"{len(leaves)} parameters",
    )


def _packed(ctx: Context, cut: int) -> Context:
  """The context with two documents in each row, the second from `cut` on."""
  B, T = ctx.positions_BT.shape
  slots = jnp.broadcast_to(jnp.arange(T), (B, T))
  return dataclasses.replace(
    ctx,
    segment_ids_BT=1 + (slots >= cut).astype(jnp.int32),
    positions_BT=jnp.where(slots < cut, slots, slots - cut),
  )


def _who_sees_whom(entry, run, params, x_BTD, ctx) -> Iterator[Check]:
  """Causality, documents and examples, by gradients."""
  T, D = x_BTD.shape[1:]
  cut = T // 3
  packed = _packed(ctx, cut)
  direction_D = jax.random.normal(jax.random.key(1), (D,))

  @jax.jit
  def influence(ctx):
    def output(x, t):
      y_BTD = run(params, x, ctx)[0]
      return (y_BTD[1, t] * direction_D).sum()

    grads = jax.lax.map(lambda t: jax.grad(output)(x_BTD, t), jnp.arange(T))
    return jnp.abs(grads).max(-1)  # [T, B, S]

  seen, seen_packed = (np.asarray(influence(c)) for c in (ctx, packed))
  scale = seen.max()
  leak = LEAK_TOLERANCE * scale
  t, s = np.arange(T)[:, None], np.arange(T)[None, :]
  future = float((seen[:, 1] * (s > t)).max())
  if entry.causal:
    yield Check(
      "causal: no output depends on a later token",
      future <= leak,
      f"largest gradient {future:.1e} of {scale:.1e}",
    )
  else:
    yield Check(
      "declared not causal, and it is not",
      future > leak,
      f"largest gradient {future:.1e} of {scale:.1e}",
    )
  past = float((seen[:, 1] * (s < t)).max())
  yield Check(
    "mixes: outputs depend on earlier tokens",
    past > leak,
    f"largest gradient {past:.1e} of {scale:.1e}",
  )
  across = (s < cut) != (t < cut)
  other = float((seen_packed[:, 1] * across).max())
  yield Check(
    "packed documents do not see each other",
    other <= leak,
    f"largest gradient {other:.1e} of {scale:.1e}",
  )
  for what, part, where in (
    ("the first of two packed documents", slice(0, cut), packed),
    ("the second", slice(cut, T), packed),
    ("the beginning of a row", slice(0, cut), ctx),
  ):
    if what == "the beginning of a row" and not entry.causal:
      continue
    alone = _part_alone(run, params, x_BTD, where, part)
    yield Check(
      f"{what} is as it is alone",
      alone <= CHUNK_TOLERANCE,
      f"relative difference {alone:.1e}, allowed {CHUNK_TOLERANCE:.0e}",
    )
  examples = float(np.delete(seen, 1, axis=1).max())
  if entry.batch_dependent:
    yield Check(
      "declared to depend on the batch, and it does",
      examples > leak,
      f"largest gradient {examples:.1e}",
    )
  else:
    yield Check(
      "an example does not depend on the others",
      examples <= leak,
      f"largest gradient {examples:.1e}",
    )


def _part_alone(run, params, x_BTD, ctx, part) -> float:
  whole = run(params, x_BTD, ctx)[0][:, part]
  alone = run(params, x_BTD[:, part], ctx.chunk(part.start, part.stop))[0]
  return _difference(whole, alone)


def _decoding(entry, config, run, params, x_BTD, ctx, y_BTD) -> Iterator[Check]:
  """Full = chunks = one token at a time, and the state's size."""
  if not entry.decodable:
    return
  if not entry.causal:
    yield Check("declared decodable, so causal", False, "it is not causal")
    return
  B, T, _ = x_BTD.shape
  room = T + 3
  packed = _packed(ctx, T // 3)
  whole = run(params, x_BTD, packed)[0]
  chunks = (0, 7, 8, T)
  for what, cuts, full, want in (
    ("chunks of 7, 1 and the rest", chunks, ctx, y_BTD),
    ("one token at a time", tuple(range(T + 1)), ctx, y_BTD),
    ("packed documents, in such chunks", chunks, packed, whole),
  ):
    state, outputs = entry.init_state(config, B, room), []
    for start, end in itertools.pairwise(cuts):
      here = full.chunk(start, end)
      y, state = run(params, x_BTD[:, start:end], here, state)
      outputs.append(y)
    error = _difference(want, jnp.concatenate(outputs, axis=1))
    yield Check(
      f"{what} = all at once",
      error <= CHUNK_TOLERANCE,
      f"relative difference {error:.1e}, allowed {CHUNK_TOLERANCE:.0e}",
    )

  def numbers(batch):
    state = jax.eval_shape(lambda: entry.init_state(config, batch, room))
    return sum(a.size for a in jax.tree.leaves(state))

  found = numbers(2) - numbers(1)
  written = entry.state_numbers(config, room)
  yield Check(
    "the decode state is as large as documented",
    found == written,
    f"{found:,} numbers an example at max_len {room}, documented {written:,}",
  )


def _meshes(config, run, declared, params) -> Iterator[Check]:
  """The same output and gradient on eight devices."""
  if jax.device_count() < 8:
    yield Check(
      "same result on 8 devices", False, f"only {jax.device_count()} devices"
    )
    return
  B, T = 8, 11
  x_BTD = jax.random.normal(jax.random.key(3), (B, T, config.d_model))
  ctx = Context(jnp.broadcast_to(jnp.arange(T), (B, T)))

  # Squares of what a norm gives add up to the same for all parameters, unless
  # channels count differently.
  weights_D = jnp.linspace(1, 2, config.d_model)

  def loss(params, x_BTD, ctx):
    y_BTD = run(params, x_BTD, ctx)[0]
    return (weights_D * y_BTD.astype(jnp.float32) ** 2).sum(), y_BTD

  value = jax.value_and_grad(loss, has_aux=True)
  (_, want), want_grads = jax.jit(value)(params, x_BTD, ctx)
  for data, fsdp in ((8, 1), (2, 4)):
    sizes = MeshConfig.of(data=data, fsdp=fsdp)
    layout = Layout.of(make_mesh(sizes, jax.devices()[:8]), sizes.rules)
    try:
      places = jax.tree_util.tree_map_with_path(
        lambda path, s, layout=layout: layout.param(
          path_of(path), s.shape, s.axes
        ),
        declared,
      )
    except UserError as error:
      yield Check(f"places on data={data}, fsdp={fsdp}", False, str(error))
      continue

    def on_mesh(params, x_BTD, ctx, layout=layout):
      with use(layout):
        return value(params, x_BTD, ctx)

    rows = layout.activation(("batch",))
    placed = dataclasses.replace(
      ctx, positions_BT=jax.device_put(ctx.positions_BT, rows)
    )
    (_, got), got_grads = jax.jit(on_mesh)(
      jax.device_put(params, places), jax.device_put(x_BTD, rows), placed
    )
    errors = [_difference(want, got)] + [
      _difference(a, b)
      for a, b in zip(
        jax.tree.leaves(want_grads), jax.tree.leaves(got_grads), strict=True
      )
    ]
    yield Check(
      f"data={data}, fsdp={fsdp}: outputs and gradients of one device",
      max(errors) <= CHUNK_TOLERANCE,
      f"relative difference {max(errors):.1e}, allowed {CHUNK_TOLERANCE:.0e}",
    )
