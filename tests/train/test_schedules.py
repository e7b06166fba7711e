"""Schedules: three points each, worked by hand, and the edges of warm-up."""

import itertools
import math

import jax
import jax.numpy as jnp
import pytest

from ablax.configs import base
from ablax.train.config import resolve
from ablax.train.schedules import SCHEDULES, make_schedule

PROVES = (
  "schedule:constant",
  "schedule:cosine",
  "schedule:linear",
  "schedule:wsd",
)

LR = 0.5
# fp32 arithmetic, a handful of roundings.
ROUNDING = 1e-6


def schedule(name, steps, warmup, **options):
  config = resolve(
    base.get_config(),
    {
      "steps": steps,
      "opt.lr": LR,
      "opt.schedule": name,
      "opt.warmup_steps": warmup,
    }
    | {f"opt.opts.{name}.{k}": v for k, v in options.items()},
  )
  return jax.jit(make_schedule(config.opt, steps))


def check(learning_rate, points):
  for count, factor in points:
    got = float(learning_rate(jnp.int32(count)))
    assert got == pytest.approx(LR * factor, rel=ROUNDING, abs=1e-9), count


# Warm-up of 10, then 90 updates: 55 is halfway, 32.5 a quarter.
POINTS = {
  "constant": [(10, 1.0), (55, 1.0), (99, 1.0)],
  "cosine": [
    (10, 1.0),
    (55, 0.1 + 0.9 * 0.5),
    (40, 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 3))),
  ],
  "linear": [(10, 1.0), (55, 0.5), (82, 0.2)],
  # The last fifth, 18 updates, decays: from 82 on, half of it at 91.
  "wsd": [(82, 1.0), (91, 0.5), (97, 1 / 6)],
}


def test_every_schedule_has_its_points():
  assert set(POINTS) == set(SCHEDULES)


@pytest.mark.parametrize("name", POINTS)
def test_three_points_of_each_schedule(name):
  check(schedule(name, 100, 10), POINTS[name])


@pytest.mark.parametrize("name", POINTS)
def test_warm_up_rises_linearly_and_the_first_update_moves(name):
  check(schedule(name, 100, 10), [(0, 0.1), (4, 0.5), (9, 1.0)])


@pytest.mark.parametrize(
  ("name", "options", "at_50", "end"),
  [
    ("cosine", {"final_factor": 0.0}, 0.5, 0.0),
    ("cosine", {"final_factor": 0.4}, 0.7, 0.4),
    ("linear", {"final_factor": 0.5}, 0.75, 0.5),
    ("wsd", {"decay_fraction": 1.0}, 0.5, 0.0),
    ("wsd", {"decay_fraction": 1.0, "final_factor": 0.5}, 0.75, 0.5),
    ("wsd", {"decay_fraction": 0.0}, 1.0, 0.0),
  ],
)
def test_options_say_where_it_ends(name, options, at_50, end):
  # Past the end it stays: a run that goes on by mistake does not rise again.
  points = [(50, at_50), (100, end), (1000, end)]
  check(schedule(name, 100, 0, **options), points)


@pytest.mark.parametrize("name", POINTS)
def test_a_schedule_never_rises_after_its_warm_up(name):
  learning_rate = schedule(name, 30, 7)
  values = [float(learning_rate(jnp.int32(i))) for i in range(7, 30)]
  assert all(a >= b for a, b in itertools.pairwise(values))
  assert min(values) > 0


@pytest.mark.parametrize("name", POINTS)
def test_all_updates_may_be_warm_up(name):
  learning_rate = schedule(name, 8, 8)
  check(learning_rate, [(0, 1 / 8), (3, 4 / 8), (7, 1.0)])


@pytest.mark.parametrize("name", POINTS)
@pytest.mark.parametrize("warmup", [0, 1])
def test_a_single_update_has_the_peak(name, warmup):
  check(schedule(name, 1, warmup), [(0, 1.0)])
