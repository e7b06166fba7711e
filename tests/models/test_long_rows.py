"""Recurrences over 4,096 tokens: a token at a time as by chunks, also in bf16.

Errors of bfloat16 must not grow with the row: states and what decays are fp32.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_options import small_options

from ablax.models.context import Context
from ablax.models.mixers import MIXERS
from ablax.models.mixers.recurrence import Recurrence
from ablax.models.once import Alone
from ablax.models.param import init_params, specs

T, D = 4096, 24
RECURRENCES = [m for m in MIXERS.own if issubclass(MIXERS[m], Recurrence)]
QUICK = ("mamba2", "gated_delta_net")


def errors(model_config, mixer):
  """Relative to the largest output: by token in fp32; in bf16, first and last.

  The last two are root mean squares, over the first and the last 1,024 tokens.
  """
  config = model_config(pattern=(mixer,), opts=small_options(mixer), max_len=T)
  x = jax.random.normal(jax.random.key(0), (1, T, D))
  ctx = Context(jnp.arange(T)[None])
  params = init_params(specs(Alone(config, mixer), x, ctx), jax.random.key(1))

  def run(config, x, ctx, state=None):
    return Alone(config, mixer).apply({"params": params}, x, ctx, state)

  @jax.jit(static_argnums=0)
  def at_once(config, x):
    return run(config, x, ctx)[0][0]

  @jax.jit(static_argnums=0)
  def by_token(config, x):
    def step(state, token):
      x_D, at = token
      y, state = run(config, x_D[None, None], Context(at[None, None]), state)
      return state, y[0, 0]

    state = MIXERS[mixer].init_state(config, 1, T)
    return jax.lax.scan(step, state, (x[0], jnp.arange(T)))[1]

  half = dataclasses.replace(config, compute_dtype="bfloat16")
  exact = np.asarray(at_once(config, x), np.float64)
  size = np.abs(exact).max()
  steps = np.abs(by_token(config, x) - exact).max() / size
  rounded = np.asarray(by_token(half, x.astype(jnp.bfloat16)), np.float64)
  square = np.square((rounded - exact) / size).mean(-1)
  return steps, square[:1024].mean() ** 0.5, square[-1024:].mean() ** 0.5


def check(model_config, mixer):
  steps, first, last = errors(model_config, mixer)
  print(f"{mixer}: {steps:.1e} by token; bf16 {first:.1e}, at last {last:.1e}")
  # fp32: what the contract allows, over 200 times as many tokens.
  assert steps < 2e-5
  # 2^-9 for a rounding, a handful of them on the way of a token.
  assert last < 5e-3 and last < 1.5 * first


@pytest.mark.parametrize("mixer", QUICK)
def test_long_rows_do_not_drift(model_config, mixer):
  check(model_config, mixer)


@pytest.mark.long
@pytest.mark.parametrize("mixer", [m for m in RECURRENCES if m not in QUICK])
def test_no_recurrence_drifts(model_config, mixer):
  check(model_config, mixer)
