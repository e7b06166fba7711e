"""Counting: FLOPs against XLA's own count, saved bytes against JAX's report."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import pytest
from jax.ad_checkpoint import print_saved_residuals

from ablax.models import lm
from ablax.models.block import REMAT
from ablax.parallel.mesh import MeshConfig, make_mesh
from ablax.parallel.rules import Layout
from ablax.train.accounting import abstract_batch, batch_zeros, flops_by_part
from ablax.train.counting import count_flops, flops_by_path, saved_bytes
from ablax.train.setup import Setup
from ablax.train.step import make_objective


@pytest.fixture
def program(small):
  """From changes to a setup, its loss and what the loss is of."""

  def of(**changes):
    config = small(**changes).with_vocab(128)
    mesh = make_mesh(MeshConfig.of(), jax.devices()[:1])
    setup = Setup.of(config, Layout.of(mesh, config.mesh.rules))
    objective = make_objective(config)
    batch = abstract_batch(config.data.batch_size, config.data.seq_len)

    def loss(params, batch):
      apply = functools.partial(lm.apply, config.model)
      return objective(apply, params, batch, None).sum

    return setup, loss, (setup.abstract().params, batch)

  return of


@pytest.mark.parametrize(
  ("mixer", "ffn"),
  [("attention", "glu"), ("mla", "mlp"), ("sliding_window", "low_rank")],
)
def test_flops_are_those_that_xla_counts(program, mixer, ffn):
  window = {"sliding_window": 16}.get(mixer, 0)
  opts = {f"model__opts__{mixer}__window": window} if window else {}
  setup, loss, args = program(
    model__mixer=mixer,
    model__ffn=ffn,
    # Wide, so that matmuls are nearly all of it: XLA also counts what is done
    # to single numbers, as the 40 operations of a GELU.
    model__d_model=256,
    model__ff_dim=512,
    data__seq_len=64,
    data__batch_size=1,
    # XLA counts the body of a loop once, and a recomputation as often as it is
    # made; the reference has neither.
    model__scan_unroll=2,
    model__implementation="reference",
    model__remat="none",
    **opts,
  )
  m, T = setup.config.model, setup.config.data.seq_len
  parts = flops_by_part(setup).values()
  needed = {"forward": sum(p.forward for p in parts) * T}
  needed["training"] = needed["forward"] + sum(p.backward for p in parts) * T
  for name, run, times in (
    ("forward", loss, 1),
    ("training", jax.value_and_grad(loss), 3),
  ):
    # The reference multiplies what lies outside the window, too.
    spared = 4 * T * (T - window) * m.n_heads * m.head_dim * m.n_layers
    ours = needed[name] + times * spared * bool(window)
    compiled = jax.jit(run).lower(*args).compile()
    theirs = compiled.cost_analysis()["flops"]
    print(f"{mixer}, {ffn}, {name}: {ours:,.0f}; XLA {theirs / ours - 1:+.2%}")
    # XLA has all of the matmuls, and up to 5 % of other operations.
    assert ours <= theirs < 1.05 * ours


def test_saved_bytes_are_the_residuals_that_jax_reports(program, capsys):
  said, temporaries = [], {}
  for remat in REMAT:
    _, loss, (params, batch) = program(model__remat=remat)
    of_params = functools.partial(loss, batch=batch_zeros(batch))
    print_saved_residuals(of_params, params)
    reported = sum(map(reported_bytes, capsys.readouterr().out.splitlines()))
    saved = saved_bytes(of_params, params)
    assert saved == reported > 0
    said.append(f"{remat}: {saved:,} bytes saved")
    if remat != "no_batch_dots":  # each takes seconds to compile
      compiled = jax.jit(jax.grad(of_params)).lower(params).compile()
      temporaries[remat] = compiled.memory_analysis().temp_size_in_bytes
      said.append(f"  XLA's temporaries {temporaries[remat]:,}")
  print("\n".join(said))
  # Those hold what is made on the way, too; what is saved decides their order.
  assert temporaries["full"] < temporaries["dots"] < temporaries["none"]


def reported_bytes(line):
  """Of "f32[8,4] output of sin from ..."; 0 for what is given."""
  kind, bits, shape, source = re.match(
    r"([a-z]+)(\d*)\[([\d,]*)\] (.*)", line
  ).groups()
  if source.startswith(("from the argument", "from a literal")):
    return 0
  assert bits or kind == "bool", line
  sizes = [int(n) for n in shape.split(",") if n]
  return math.prod(sizes) * (int(bits) // 8 if bits else 1)


def flops_of(function, *shapes):
  args = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
  return count_flops(jax.make_jaxpr(function)(*args).jaxpr)


def test_every_matmul_is_two_flops_a_product_wherever_it_stands():
  matmul = 2 * 3 * 5 * 7
  sizes = (3, 5), (5, 7)
  assert flops_of(jnp.dot, *sizes) == matmul
  assert flops_of(jax.jit(jnp.dot), *sizes) == matmul
  assert flops_of(jax.checkpoint(jnp.dot), *sizes) == matmul
  batched = functools.partial(jnp.einsum, "bij,bjk->bik")
  assert flops_of(batched, (4, 3, 5), (4, 5, 7)) == 4 * matmul

  def loop(x, w):
    def body(_, row):
      return None, jax.lax.scan(lambda c, _: (c, row @ w), 0.0, None, length=2)

    return jax.lax.scan(body, None, x)[1][1]

  assert flops_of(loop, (6, 3, 5), (5, 7)) == 12 * matmul

  def branch(x, w):
    return jax.lax.cond(x[0, 0] > 0, lambda: x @ w, lambda: jnp.zeros((3, 7)))

  assert flops_of(branch, *sizes) == matmul  # the dearer one


def test_a_matmul_is_counted_where_it_stands():
  @jax.named_scope("outer")
  def run(x, w):
    with jax.named_scope("one"):
      y = x @ w

    def body(c, row):
      with jax.named_scope("two"):
        return c, row @ w

    return y, jax.lax.scan(body, None, x)[1].sum()

  args = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((3, 5), (5, 7))]
  matmul = 2 * 3 * 5 * 7
  found = flops_by_path(jax.make_jaxpr(run)(*args).jaxpr)
  ends = {path.rpartition("/")[2]: n for path, n in found.items()}
  assert ends == {"one": matmul, "two": matmul}
  assert all("outer" in path for path in found)


def test_saved_bytes_are_the_residuals_and_not_the_inputs():
  x = jax.ShapeDtypeStruct((8, 4), jnp.float32)
  # sin keeps cos(x) alone; a product of inputs keeps nothing new.
  assert saved_bytes(jnp.sin, x) == 8 * 4 * 4
  assert saved_bytes(lambda x: (x * x).sum(), x) == 0
