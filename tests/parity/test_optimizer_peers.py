"""Optimizers are those of torch and of others, over 20 updates in fp64 there.

Ours have the layers stacked and attention's heads as an axis; theirs have each
layer's matrix as torch has it, [out, in].
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import pytorch_optimizer
import schedulefree
import torch

from ablax.configs import base
from ablax.models.param import ParamSpec, zeros
from ablax.train.config import resolve
from ablax.train.optimizers import eval_params, make_optimizer
from ablax.train.schedules import make_schedule

PROVES = (
  "optimizer:adamw",
  "optimizer:sgd",
  "optimizer:lion",
  "optimizer:adan",
  "optimizer:adafactor",
  "optimizer:muon",
  "optimizer:shampoo",
  "optimizer:soap",
  "optimizer:sophia",
  "optimizer:schedule_free",
)

L, STEPS, WEIGHT = 2, 20, 7.0

# name -> (shape, axes, roles); a matrix here is I x O.
TREE = {
  "table": ((7, 4), ("vocab", "embed"), ("in", "out")),
  "q": (
    (L, 4, 2, 3),
    ("layers", "embed", "heads", "head_dim"),
    ("batch", "in", "out", "out"),
  ),
  "o": (
    (L, 2, 3, 4),
    ("layers", "heads", "head_dim", "embed"),
    ("batch", "in", "in", "out"),
  ),
  "up": ((L, 4, 4), ("layers", "embed", "ff"), ("batch", "in", "out")),
  "scale": ((L, 4), ("layers", "norm"), ()),
}
SPECS = {
  name: ParamSpec(shape, jnp.dtype("float32"), axes, zeros, roles)
  for name, (shape, axes, roles) in TREE.items()
}
IN = {"table": 7, "q": 4, "o": 6, "up": 4}

rng = np.random.default_rng(0)
START = {k: rng.standard_normal(s.shape) for k, s in SPECS.items()}
GRADS = {k: rng.standard_normal((STEPS, *s.shape)) for k, s in SPECS.items()}


def ours(name, pull=0.3, **changes):
  """Our weights after each update, name -> [STEPS, ...]."""
  plain = {
    "steps": STEPS,
    "opt.name": name,
    "opt.schedule": "constant",
    "opt.decay_rules": ((".*", 1.0),),
  }
  changes = {f"opt.{k.replace('__', '.')}": v for k, v in changes.items()}
  config = resolve(base.get_config(), plain | changes).opt
  optimizer = make_optimizer(config, make_schedule(config, STEPS), SPECS)
  as32 = {k: jnp.asarray(a, jnp.float32) for k, a in START.items()}
  grads = {k: jnp.asarray(a, jnp.float32) for k, a in GRADS.items()}

  @jax.jit
  def run(params):
    def step(carry, count):
      params, state = carry
      now = {k: grads[k][count] + pull * params[k] for k in params}
      updates, state = optimizer.update(
        now,
        state,
        params,
        count=count,
        sampled_grads=lambda: (now, jnp.float32(WEIGHT)),
      )
      params = jax.tree.map(jnp.add, params, updates)
      return (params, state), eval_params(config, state, params)

    carry = params, optimizer.init(params)
    return jax.lax.scan(step, carry, jnp.arange(STEPS))[1]

  return {k: np.asarray(v) for k, v in run(as32).items()}


def as_theirs(name, a):
  """One layer's array as torch has it."""
  if name not in IN:
    return a
  return a.reshape(IN[name], -1).T


def theirs(make, pull=0.3, step=None):
  """Their weights after each update, (name, layer) -> [STEPS, ...].

  `make` turns {name: tensors} into optimizers.
  """
  params = {
    name: [
      torch.tensor(np.ascontiguousarray(as_theirs(name, a)))
      for a in (START[name][None] if name == "table" else START[name])
    ]
    for name in TREE
  }
  optimizers = make(params)
  seen = {}
  for count in range(STEPS):
    for name, tensors in params.items():
      for i, p in enumerate(tensors):
        g = GRADS[name][count]
        g = as_theirs(name, g if name == "table" else g[i])
        p.grad = torch.tensor(np.ascontiguousarray(g)) + pull * p
    for optimizer in optimizers:
      step(optimizer, count) if step else optimizer.step()
    for optimizer in optimizers:
      if hasattr(optimizer, "eval"):
        optimizer.eval()
    for name, tensors in params.items():
      for i, p in enumerate(tensors):
        seen.setdefault((name, i), []).append(p.numpy().copy())
    for optimizer in optimizers:
      if hasattr(optimizer, "train"):
        optimizer.train()
  return seen


# fp32 against fp64: numbers of size 2, some roundings in each of 20 updates,
# and inverse roots that multiply them.
ROUNDING = 5e-6


def compare(mine, other):
  for (name, i), steps in other.items():
    for count, want in enumerate(steps):
      got = mine[name][count]
      got = as_theirs(name, got if name == "table" else got[i])
      np.testing.assert_allclose(
        got, want, atol=ROUNDING, err_msg=f"{name}, update {count + 1}"
      )


def everything(params):
  return [p for tensors in params.values() for p in tensors]


def test_adamw_is_that_of_torch():
  compare(
    ours("adamw", lr=0.05, weight_decay=0.2),
    theirs(
      lambda p: [
        torch.optim.AdamW(
          everything(p), lr=0.05, betas=(0.9, 0.95), weight_decay=0.2
        )
      ]
    ),
  )


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_that_of_torch(nesterov):
  # torch's decay is in the gradient, so none is compared.
  compare(
    ours("sgd", lr=0.02, weight_decay=0.0, opts__sgd__nesterov=nesterov),
    theirs(
      lambda p: [
        torch.optim.SGD(everything(p), lr=0.02, momentum=0.9, nesterov=nesterov)
      ]
    ),
  )


def test_adafactor_is_that_of_torch():
  # torch takes eps as the least root mean square, where the paper adds it.
  compare(
    ours("adafactor", lr=0.05, weight_decay=0.2),
    theirs(
      lambda p: [
        torch.optim.Adafactor(
          everything(p), lr=0.05, eps=(1e-30, 1e-3), weight_decay=0.2
        )
      ]
    ),
  )


def test_lion_is_that_of_pytorch_optimizer():
  compare(
    ours("lion", lr=0.02, weight_decay=0.2),
    theirs(
      lambda p: [
        pytorch_optimizer.Lion(
          everything(p), lr=0.02, betas=(0.9, 0.99), weight_decay=0.2
        )
      ]
    ),
  )


def test_adan_is_that_of_pytorch_optimizer():
  compare(
    ours("adan", lr=0.02, weight_decay=0.2),
    theirs(
      lambda p: [
        pytorch_optimizer.Adan(
          everything(p),
          lr=0.02,
          betas=(0.98, 0.92, 0.99),
          weight_decay=0.2,
          weight_decouple=True,
          max_grad_norm=0.0,
        )
      ]
    ),
  )


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("scale", ["match_rms", "original"])
def test_muon_is_that_of_torch_and_adamw_elsewhere(
  scale, nesterov, monkeypatch
):
  # torch's iteration is in bf16; here it is to be in fp64.
  monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
  word = {"match_rms": "match_rms_adamw", "original": "original"}[scale]

  def make(p):
    matrices, rest = p["q"] + p["o"] + p["up"], p["table"] + p["scale"]
    muon = torch.optim.Muon(
      matrices,
      lr=0.02,
      momentum=0.9,
      nesterov=nesterov,
      weight_decay=0.2,
      adjust_lr_fn=word,
    )
    adamw = torch.optim.AdamW(
      rest, lr=0.02, betas=(0.9, 0.95), weight_decay=0.2
    )
    return [muon, adamw]

  mine = ours(
    "muon",
    lr=0.02,
    weight_decay=0.2,
    opts__muon__scale=scale,
    opts__muon__momentum=0.9,
    opts__muon__nesterov=nesterov,
  )
  compare(mine, theirs(make))


def test_soap_is_that_of_pytorch_optimizer():
  # The first gradient must span a side, or its basis is anybody's guess: sides
  # of 4 are rotated, those of 6 and the vocabulary of 7 are not. Its decay
  # comes after the step, so none is compared.
  def make(p):
    matrices = p["table"] + p["q"] + p["o"] + p["up"]
    soap = pytorch_optimizer.SOAP(
      matrices,
      lr=0.02,
      weight_decay=0.0,
      precondition_frequency=3,
      max_precondition_dim=4,
    )
    return [soap, torch.optim.Adam(p["scale"], lr=0.02, betas=(0.95, 0.95))]

  mine = ours(
    "soap",
    lr=0.02,
    weight_decay=0.0,
    opts__soap__every=3,
    opts__soap__max_dim=4,
  )
  compare(mine, theirs(make))


def test_sophia_steps_as_that_of_pytorch_optimizer_given_the_curvature():
  gamma, every, decay = 0.05, 3, 0.2

  def make(p):
    # Its clip is before its step: lr / gamma * clip(m / h, gamma).
    return [
      pytorch_optimizer.SophiaH(
        everything(p),
        lr=0.02 / gamma,
        p=gamma,
        weight_decay=decay * gamma,
        update_period=10**9,
        foreach=False,
      )
    ]

  def step(optimizer, count):
    params = optimizer.param_groups[0]["params"]
    due = count % every == 0
    optimizer.step(
      hessian=[WEIGHT * p.grad**2 for p in params] if due else None
    )

  mine = ours(
    "sophia",
    lr=0.02,
    weight_decay=decay,
    opts__sophia__gamma=gamma,
    opts__sophia__every=every,
  )
  compare(mine, theirs(make, step=step))


def test_schedule_free_is_that_of_its_authors_in_evaluation():
  mine = ours("schedule_free", lr=0.05, weight_decay=0.2, warmup_steps=6)

  def make(p):
    optimizer = schedulefree.AdamWScheduleFree(
      everything(p),
      lr=0.05,
      betas=(0.9, 0.999),
      weight_decay=0.2,
      warmup_steps=6,
      foreach=False,
    )
    optimizer.train()
    return [optimizer]

  compare(mine, theirs(make))


def test_shampoo_is_that_of_pytorch_optimizer_where_it_is_plain():
  """Sums, no momentum, no grafting: the paper of 2018."""
  # Their statistics begin with eps I and ours have a ridge: with square
  # matrices far from singular, neither is seen.
  n = 4
  g = np.random.default_rng(3).standard_normal((STEPS, n, n)) + 3 * np.eye(n)
  x = torch.zeros(n, n, dtype=torch.float64)
  theirs = pytorch_optimizer.Shampoo([x], lr=0.1, matrix_eps=1e-12)
  specs = {
    "kernel": ParamSpec(
      (n, n), jnp.dtype("float32"), ("embed", "ff"), zeros, ("in", "out")
    )
  }
  changes = {"eps": 1e-9, "b1": 0.0, "b2": 1.0, "graft": "none", "every": 1}
  config = resolve(
    base.get_config(),
    {
      "opt.name": "shampoo",
      "opt.lr": 0.1,
      "opt.schedule": "constant",
      "opt.weight_decay": 0.0,
    }
    | {f"opt.opts.shampoo.{k}": v for k, v in changes.items()},
  ).opt
  optimizer = make_optimizer(config, make_schedule(config, STEPS), specs)
  params = {"kernel": jnp.zeros((n, n))}
  state = optimizer.init(params)
  update = jax.jit(optimizer.update)
  for count in range(STEPS):
    x.grad = torch.tensor(g[count])
    theirs.step()
    grads = {"kernel": jnp.asarray(g[count], jnp.float32)}
    updates, state = update(grads, state, params, count=jnp.int32(count))
    params = jax.tree.map(jnp.add, params, updates)
    # Eigenvalues of fp32, to the power -1/4.
    np.testing.assert_allclose(params["kernel"], x.numpy(), atol=ROUNDING)
