"""Proof: what an update changes is as large at any width, a coordinate check.

Appendix D.1 of Yang et al. 2022, arXiv:2203.03466: the same few updates at
several widths, and how far the activations are then from where they were. A
missing rule shows as a power of the width.
"""

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ...data.pipeline import train_batches
from ...data.prepare import prepare
from ...errors import UserError
from ...models import lm
from ...models.mup import at_width
from ...models.param import path_of
from ...registry import NoOptions, Opts
from ..config import Config
from ..setup import fit_vocab, make_setup
from ..step import BATCH, make_update
from . import Check

TIMES = (1, 2, 4)  # the base width
STEPS = 5
SEEDS = 2
TOKENS = 512  # of a batch: the mean of so many is steady
# Of log size against log width. A missing rule is worth 1/2 or 1; at widths
# this small and with so few seeds, right ones were seen from -0.23 to 0.11, and
# without the rule of attention, which is slow to show, 0.26.
LEAST, MOST = -0.35, 0.2
# The initial weights' noise in these falls as width^-1/2, and hides what was
# learned while that is little: they may fall so, but not grow.
NOISY = ("logits", "own_score")

# name -> mean |x_t - x_0|, [widths, updates].
Moves = Mapping[str, np.ndarray]


def least(name: str) -> float:
  """The lowest power of the width at which an activation may change."""
  return LEAST - 0.5 * (name in NOISY)


def prepared_config(config: Config) -> Config:
  """The config with a proxy, at the full rate from the first update on."""
  model, opt = config.model, config.opt
  if not model.mup_base:
    grows = model.mup_grows or "n_heads"
    model = dataclasses.replace(model, mup_base=model.d_model, mup_grows=grows)
  opts = Opts({**opt.opts, "constant": NoOptions()})
  opt = dataclasses.replace(
    opt, schedule="constant", warmup_steps=0, accum_steps=1, opts=opts
  )
  log = dataclasses.replace(config.log, noise_scale=False)
  axes = dataclasses.asdict(config.mesh)
  ones = {axis: 1 for axis, n in axes.items() if isinstance(n, int)}
  mesh = dataclasses.replace(config.mesh, **ones)
  return dataclasses.replace(config, model=model, opt=opt, log=log, mesh=mesh)


def standard(config: Config) -> Config:
  """The same in standard parametrization."""
  model = dataclasses.replace(config.model, mup_base=0)
  return dataclasses.replace(config, model=model)


def activations(config, params, batch) -> dict[str, jax.Array]:
  """By name, with an axis for layers; also the logits."""
  output, kept = lm.activations(
    config.model,
    params,
    batch["tokens"],
    batch["positions"],
    batch["segment_ids"],
  )
  found: dict[str, list] = {"logits": [output.logits()[None]]}
  for path, x in jax.tree_util.tree_flatten_with_path(kept)[0]:
    found.setdefault(path_of(path).split("/")[-1], []).append(x)
  return {
    name: jnp.concatenate(parts).astype(jnp.float32)
    for name, parts in found.items()
  }


def moves_at(
  config: Config, batches: Sequence[Any], seeds: int
) -> dict[str, np.ndarray]:
  """Mean |x_t - x_0| after each update, over seeds."""
  setup = make_setup(config, jax.devices()[:1])
  update = make_update(setup)
  first = batches[0]
  real = first["segment_ids"] != 0

  def mean(x, x0):
    far = jnp.abs(x - x0).mean(tuple(range(3, x.ndim))).mean(0)
    return jnp.where(real, far, 0).sum() / real.sum()

  @jax.jit
  def run(state, stacked):
    start = activations(config, state.params, first)

    def one(state, batch):
      state, _, _ = update(state, batch)
      now = activations(config, state.params, first)
      return state, jax.tree.map(mean, now, start)

    return jax.lax.scan(one, state, stacked)[1]

  stacked = jax.tree.map(lambda *a: jnp.stack(a), *batches)
  total: dict[str, Any] = {}
  for seed in range(config.seed, config.seed + seeds):
    at = dataclasses.replace(config, seed=seed)
    found = run(dataclasses.replace(setup, config=at).init(), stacked)
    for name, sizes in found.items():
      total[name] = total.get(name, 0) + np.asarray(sizes, float) / seeds
  return total


def measure(
  config: Config, widths: Sequence[int], batches: Sequence[Any], seeds: int
) -> Moves:
  """`moves_at` of the config's model at each width."""
  rows = []
  for width in widths:
    model = at_width(config.model, width)
    at = dataclasses.replace(config, model=model)
    rows.append(moves_at(at, batches, seeds))
  return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def slopes(widths: Sequence[int], moves: Moves) -> dict[str, float]:
  """The power of the width by which each grows: after the last update."""
  x = np.log(np.asarray(widths, float))
  return {
    name: float(np.polyfit(x, np.log(sizes[:, -1]), 1)[0])
    for name, sizes in moves.items()
  }


def some_batches(config: Config, prepared, n: int) -> list[Any]:
  rows = max(1, min(config.data.batch_size, TOKENS // config.data.seq_len))
  stream = train_batches(prepared, config.data)
  return [
    {k: jnp.asarray(batch[k][:rows]) for k in BATCH}
    for batch in (next(stream) for _ in range(n))
  ]


def prove(
  config: Config, widths: Sequence[int] = (), figure: str = ""
) -> Iterator[Check]:
  """Trains at several widths, with muP and without.

  Args:
    widths: values of d_model; (): the base's, its double and fourfold.
    figure: a file to draw into.
  """
  prepared = prepare(config.data)
  config = fit_vocab(config, prepared.tokenizer.vocab_size)
  config = prepared_config(config)
  base = config.model.mup_base
  widths = tuple(widths) or tuple(base * times for times in TIMES)
  if len(set(widths)) < 2:
    raise UserError(f"--widths={widths} must be two or more to compare")
  batches = some_batches(config, prepared, STEPS)

  moves = measure(config, widths, batches, SEEDS)
  without = measure(standard(config), widths, batches, SEEDS)
  if figure:
    from ..figures import plot_coordinates

    both = {"standard parametrization": without, "muP": moves}
    plot_coordinates(pathlib.Path(figure), widths, both)
  if base in widths:
    i = widths.index(base)
    same = [bool((moves[k][i] == without[k][i]).all()) for k in moves]
    yield Check(
      f"at the base width {base}, updates do the same as without muP",
      all(same),
      f"{sum(same)} of {len(same)} series of changes are the same bits",
    )
  powers = slopes(widths, without)
  for name, slope in slopes(widths, moves).items():
    yield Check(
      f"{name}: updates change as much at any width",
      least(name) <= slope <= MOST,
      f"as width^{slope:+.2f} from {min(widths)} to {max(widths)}, allowed"
      f" {least(name):+} to {MOST:+}; without muP width^{powers[name]:+.2f}",
    )
