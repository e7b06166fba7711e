"""Mixtures of experts: routers against float64, losses, loads and drops."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ablax.errors import UserError
from ablax.models import lm, penalty
from ablax.models.context import Context, DropoutKey
from ablax.models.ffn import FFNS
from ablax.models.param import init_params, specs
from ablax.models.routers import ROUTERS
from ablax.models.routers.sinkhorn import plan
from ablax.models.state import init_state
from ablax.parallel.mesh import MeshConfig, make_mesh
from ablax.parallel.rules import Layout, use

PROVES = (
  "router:expert_choice",
  "router:hash",
  "router:sinkhorn",
  "feature:load_balance_loss",
  "feature:router_z_loss",
  "feature:loss_free_balance",
  "feature:grouped_matmul",
)
AGAINST = {
  "router:expert_choice": "float64 formula",
  "router:hash": "whole numbers in numpy",
  "router:sinkhorn": "float64 formula",
  "feature:load_balance_loss": "float64 formula",
  "feature:router_z_loss": "float64 formula",
}

B, T, D, E = 3, 13, 24, 4
# fp32: sums of up to 40 numbers of size 1 in another order.
ROUNDING = {"rtol": 0, "atol": 1e-5}
SMALL = {"moe.n_experts": E, "moe.expert_dim": 16}
ROUTED = {
  "softmax": {},
  "sigmoid": {"moe.router": "sigmoid"},
  "switch": {"moe.router": "switch", "moe.top_k": 1},
  "expert_choice": {"moe.router": "expert_choice"},
  "hash": {"moe.router": "hash"},
  "sinkhorn": {"moe.router": "sinkhorn"},
}
CAUSAL = [name for name in ROUTED if ROUTERS[name].causal]


class Made:
  """A mixture with random weights, and what calls it."""

  def __init__(self, model_config, **opts):
    more = {k: opts.pop(k) for k in ("compute_dtype",) if k in opts}
    self.config = model_config(ffn="moe", opts=SMALL | opts, **more)
    self.ffn = FFNS["moe"](self.config)
    rng = np.random.default_rng(0)
    self.x = jnp.asarray(rng.normal(size=(B, T, D)), jnp.float32)
    self.tokens = jnp.asarray(rng.integers(0, 53, (B, T)))
    declared = specs(self.ffn, self.x, self.ctx())
    self.params = init_params(declared, jax.random.key(0))
    if "router" in self.params:
      self.params["router"]["logits"]["kernel"] *= 3

  def ctx(self, training=False, segments=None):
    slots = jnp.broadcast_to(jnp.arange(T), (B, T))
    key = DropoutKey(jnp.uint32(5), jnp.arange(B)) if training else None
    return Context(slots, segments, dropout=key, tokens_BT=self.tokens)

  def __call__(self, x=None, ctx=None, params=None):
    """y, the penalty of each row and what was counted."""
    y, seen = self.ffn.apply(
      {"params": self.params if params is None else params},
      self.x if x is None else x,
      self.ctx() if ctx is None else ctx,
      mutable=list(penalty.COLLECTIONS),
    )
    flat = {
      name: dict(penalty.named(seen.get(name, {})))
      for name in penalty.COLLECTIONS
    }
    return y, flat["penalties"], flat["measures"]

  def logits(self):
    kernel = np.asarray(self.params["router"]["logits"]["kernel"], np.float64)
    return np.asarray(self.x, np.float64) @ kernel

  def expert(self, e, x):
    """One expert in float64: SwiGLU."""
    gate, up, down = (
      np.asarray(self.params["experts"][name]["kernel"][e], np.float64)
      for name in ("gate", "up", "down")
    )
    h = x @ gate
    return (h / (1 + np.exp(-h)) * (x @ up)) @ down


def softmax(a):
  a = np.exp(a - a.max(-1, keepdims=True))
  return a / a.sum(-1, keepdims=True)


def test_expert_choice_gives_each_expert_its_best_tokens_of_a_row(model_config):
  made = Made(model_config, **ROUTED["expert_choice"])
  segments = jnp.ones((B, T), jnp.int32).at[1, 9:].set(0)
  y, _, measures = made(ctx=made.ctx(segments=segments))
  p, want = softmax(made.logits()), np.zeros((B, T, D))
  x = np.asarray(made.x, np.float64)
  for b in range(B):
    real = 9 if b == 1 else T
    for e in range(E):
      best = np.argsort(-p[b, :real, e])[: math.ceil(2 * T / E)]
      for t in best:
        want[b, t] += p[b, t, e] * made.expert(e, x[b, t])
  np.testing.assert_allclose(y, want, **ROUNDING)
  np.testing.assert_allclose(measures["load"], 1 / E, rtol=1e-6)


def test_hash_sends_a_word_to_the_same_experts_everywhere(model_config):
  made = Made(model_config, **ROUTED["hash"])
  ids = jnp.tile(jnp.arange(53), 2)[None]
  router = ROUTERS["hash"](made.config)

  def route(layer):
    ctx = Context(ids, layer=layer, tokens_BT=ids)
    return np.asarray(router.apply({}, ids[..., None], ctx, ids >= 0)[0][0])

  def hashed(x):
    """Wellons' lowbias32."""
    x = ((x ^ x >> 16) * 0x7FEB352D) % 2**32
    x = ((x ^ x >> 15) * 0x846CA68B) % 2**32
    return x ^ x >> 16

  first, second = route(0), route(1)
  for layer, found in enumerate((first, second)):
    words = np.array([hashed(hashed(layer) + i) for i in range(53)])
    np.testing.assert_array_equal(found[:53, 0], words % E)
    np.testing.assert_array_equal(found[:53, 1], (words + 1) % E)
  np.testing.assert_array_equal(first[:53], first[53:])
  assert (first[:, 0] != first[:, 1]).all() and first.max() == E - 1
  assert (first != second).any()
  assert made.params.keys() == {"experts"}


def test_sinkhorn_evens_out_the_load_in_training_alone(model_config):
  opts = ROUTED["sinkhorn"] | {"moe.top_k": 1, "sinkhorn.iterations": 50}
  made = Made(model_config, **opts)
  even, greedy = (
    np.asarray(made(ctx=made.ctx(training))[2]["load"]) for training in (1, 0)
  )
  # 13 tokens for 4 experts: rounding to a choice is uneven by some tokens.
  assert even.max() <= 5 / T < greedy.max()
  y, _, _ = made()
  s = 1 / (1 + np.exp(-made.logits()))
  x, want = np.asarray(made.x, np.float64), np.zeros((B, T, D))
  for b, t in np.ndindex(B, T):
    e = s[b, t].argmax()
    want[b, t] = s[b, t, e] * made.expert(e, x[b, t])
  np.testing.assert_allclose(y, want, **ROUNDING)


def test_the_plan_has_even_columns_and_whole_rows():
  logits = np.random.default_rng(0).normal(size=(2, T, E))
  real = np.ones((2, T), bool)
  real[1, 8:] = False
  p = np.exp(np.asarray(plan(jnp.asarray(logits), jnp.asarray(real), 200)))
  p *= real[..., None]
  np.testing.assert_allclose(p.sum(2), real, atol=1e-5)
  columns = np.array([[T / E], [8 / E]]) * np.ones(E)
  np.testing.assert_allclose(p.sum(1), columns, atol=1e-3)
  # Of all such plans it is that of these logits: ratios of ratios are kept.
  odds = np.log(p[0]) - logits[0]
  crossed = odds - odds[:1] - odds[:, :1] + odds[:1, :1]
  np.testing.assert_allclose(crossed, 0, atol=1e-4)


@pytest.mark.parametrize("router", ROUTED)
def test_padding_goes_to_no_expert_and_counts_for_nothing(model_config, router):
  made = Made(model_config, **ROUTED[router])
  segments = jnp.ones((B, T), jnp.int32).at[:, 8:].set(0)
  other = made.x.at[:, 8:].add(3.0)

  @jax.jit
  def run(x, training):
    ctx = made.ctx(True, segments)
    return made(x, ctx)

  (y, lost, seen), (y_other, lost_other, seen_other) = (
    run(x, True) for x in (made.x, other)
  )
  np.testing.assert_array_equal(y[:, 8:], 0)
  np.testing.assert_array_equal(y[:, :8], y_other[:, :8])
  for a, b in ((lost, lost_other), (seen, seen_other)):
    for name in a:
      np.testing.assert_allclose(a[name], b[name], rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("router", CAUSAL)
def test_a_token_alone_is_as_in_its_row_outside_training(model_config, router):
  """So that text can be generated, and packed documents stay apart."""
  made = Made(model_config, **ROUTED[router], **{"moe.capacity_factor": 0.5})
  whole, _, measures = made()
  np.testing.assert_array_equal(measures["dropped"], 0)
  for t in (0, 7, T - 1):
    one = made.ctx().chunk(t, t + 1)
    y, _, _ = made(made.x[:, t : t + 1], one)
    np.testing.assert_allclose(y[:, 0], whole[:, t], **ROUNDING)


def test_expert_choice_is_refused_where_text_is_generated(model_config):
  config = model_config(ffn="moe", opts=SMALL | ROUTED["expert_choice"])
  with pytest.raises(
    UserError, match=r"moe\.router='expert_choice' is not cau"
  ):
    init_state(config, 1, 8)


def test_room_for_all_is_the_same_as_dropless(model_config):
  """Two dispatches, with their gradients; 1.0 of capacity then drops some."""
  opts = {"moe.capacity_factor": float(E)}
  wide, sorted_ = Made(model_config, **opts), Made(model_config)
  dy = jnp.cos(jnp.arange(B * T * D, dtype=jnp.float32)).reshape(B, T, D)

  def grads(made):
    def loss(params, x):
      y, _, seen = made(x, made.ctx(True), params)
      return (y * dy).sum(), (y, seen["dropped"])

    return jax.jit(jax.grad(loss, (0, 1), has_aux=True))(made.params, made.x)

  (ours, (y, dropped)), (theirs, (y_sorted, none)) = map(grads, (wide, sorted_))
  assert not np.asarray(dropped).any() and not np.asarray(none).any()
  np.testing.assert_allclose(y, y_sorted, **ROUNDING)
  for a, b in zip(*map(jax.tree.leaves, (ours, theirs)), strict=True):
    np.testing.assert_allclose(a, b, rtol=0, atol=5e-5)


def test_who_comes_late_is_dropped_and_counted(model_config):
  made = Made(model_config, **{"moe.capacity_factor": 0.5})
  capacity = math.ceil(0.5 * 2 * T / E)
  y, _, measures = made(ctx=made.ctx(True))
  p, x = softmax(made.logits()), np.asarray(made.x, np.float64)
  want, lost = np.zeros((B, T, D)), np.zeros(B)
  for b in range(B):
    taken = np.zeros(E, int)
    for t in range(T):
      best = np.argsort(-p[b, t])[:2]
      for e in best:
        if taken[e] == capacity:
          lost[b] += 1
          continue
        taken[e] += 1
        w = p[b, t, e] / p[b, t, best].sum()
        want[b, t] += w * made.expert(e, x[b, t])
  assert lost.all()
  np.testing.assert_allclose(y, want, **ROUNDING)
  np.testing.assert_allclose(measures["dropped"], lost / (2 * T), rtol=1e-6)


def test_in_training_no_later_token_takes_an_earlier_ones_place(model_config):
  made = Made(model_config, **{"moe.capacity_factor": 0.5})

  @jax.jit
  def run(x):
    return made(x, made.ctx(True))[0]

  changed = made.x.at[:, 7:].set(-made.x[:, 7:])
  np.testing.assert_array_equal(run(made.x)[:, :7], run(changed)[:, :7])


@pytest.mark.parametrize("over", ["row", "batch"])
def test_losses_are_their_formulas(model_config, over):
  made = Made(
    model_config,
    **{
      "softmax.balance_loss": 0.3,
      "softmax.balance_over": over,
      "softmax.z_loss": 0.2,
    },
  )
  real = np.ones((B, T), bool)
  real[1, 6:] = False
  _, lost, seen = made(ctx=made.ctx(segments=jnp.asarray(real, jnp.int32)))
  logits, p = made.logits(), softmax(made.logits())
  chosen = np.zeros((B, T, E))
  np.put_along_axis(chosen, np.argsort(-p)[..., :2], 0.5, axis=-1)
  sets = [(b, real[b]) for b in range(B)]
  for b, mask in sets:
    of = (
      (p[b][mask], chosen[b][mask])
      if over == "row"
      else (p[real], chosen[real])
    )
    balance = E * (of[0].mean(0) * of[1].mean(0)).sum()
    z = (np.log(np.exp(logits[b][mask]).sum(-1)) ** 2).mean()
    np.testing.assert_allclose(seen["balance"][b], balance, rtol=1e-5)
    np.testing.assert_allclose(lost["balance"][b], 0.3 * balance, rtol=1e-5)
    np.testing.assert_allclose(seen["z"][b], z, rtol=1e-5)
    np.testing.assert_allclose(lost["z"][b], 0.2 * z, rtol=1e-5)
    entropy = -(p[b][mask] * np.log(p[b][mask])).sum(-1).mean()
    np.testing.assert_allclose(seen["entropy"][b], entropy, rtol=1e-5)
    np.testing.assert_allclose(
      seen["load"][b], chosen[b][mask].mean(0), rtol=1e-5
    )


def test_the_bias_turns_the_choice_and_not_the_weights(model_config):
  made = Made(model_config, **{"softmax.bias_rate": 0.01})
  params = {**made.params, "router": {**made.params["router"]}}
  params["router"]["bias"] = jnp.array([0.0, 0.0, 0.0, 5.0])
  _, _, seen = made(params=params)
  np.testing.assert_allclose(seen["load"][:, 3], 0.5)  # of all, as first choice
  _, lost, _ = made()
  assert float(jnp.abs(lost["bias"]).max()) == 0

  def loss(bias):
    router = {**made.params["router"], "bias": bias}
    _, lost, seen = made(params={**made.params, "router": router})
    return lost["bias"].sum(), seen["load"]

  grad, load = jax.grad(loss, has_aux=True)(jnp.zeros(E))
  # Up against the gradient goes who had less than an even share.
  np.testing.assert_array_equal(
    np.sign(grad), np.sign(np.asarray(load).sum(0) - B / E)
  )


@pytest.mark.parametrize("router", ["softmax", "expert_choice"])
def test_bf16_is_close_and_eight_devices_are_the_same(model_config, router):
  made = Made(model_config, **ROUTED[router])
  half = Made(model_config, compute_dtype="bfloat16", **ROUTED[router])
  y, _, _ = made()
  y_half, _, _ = half(half.x.astype(jnp.bfloat16))
  error = np.abs(np.asarray(y_half, np.float64) - y)
  # Where a rounded input sends a token elsewhere it is another number.
  close = error.max(-1) <= 3e-2 * np.abs(y).max()
  assert close.mean() > 0.9 and y_half.dtype == jnp.bfloat16
  x = jnp.concatenate([made.x, made.x[:1]])
  slots = jnp.broadcast_to(jnp.arange(T), (B + 1, T))
  mesh = make_mesh(MeshConfig.of(data=2, fsdp=2, tensor=2), jax.devices())
  with use(Layout.of(mesh, "fsdp")):
    many, _, _ = jax.jit(lambda *a: made(*a))(x, Context(slots))
  np.testing.assert_allclose(many[:B], y, **ROUNDING)


def test_jitter_is_of_training_alone_and_another_in_each_row(model_config):
  plain = Made(model_config, **ROUTED["switch"])
  made = Made(model_config, **ROUTED["switch"], **{"switch.jitter": 0.3})
  np.testing.assert_array_equal(made()[0], plain()[0])
  same = jnp.broadcast_to(made.x[:1], made.x.shape)
  still, moved = (m(same, m.ctx(True))[0] for m in (plain, made))
  np.testing.assert_array_equal(still[0], still[1])
  difference = np.abs(np.asarray(moved - still)).max((1, 2))
  assert (difference > 1e-3).all()
  assert np.abs(np.asarray(moved[0] - moved[1])).max() > 1e-3


@pytest.mark.parametrize("expert", [e for e in FFNS.own if FFNS[e].expert])
def test_equal_experts_are_the_network_itself(model_config, expert):
  """Any feed-forward network may be the expert, sorted or in slots."""
  made = Made(
    model_config, **{"moe.expert": expert, "moe.capacity_factor": float(E)}
  )
  dense = model_config(ffn=expert, ff_dim=16)
  inputs = made.x, made.ctx()
  params = init_params(specs(FFNS[expert](dense), *inputs), jax.random.key(1))
  want = FFNS[expert](dense).apply({"params": params}, *inputs)
  experts = jax.tree.map(lambda a: jnp.stack([a] * E), params)
  for training in (False, True):
    got, _, seen = made(
      ctx=made.ctx(training), params={**made.params, "experts": experts}
    )
    assert not np.asarray(seen["dropped"]).any()
    np.testing.assert_allclose(got, want, **ROUNDING)


def test_layers_report_in_the_order_of_the_depth(model_config):
  config = model_config(
    n_layers=6,
    first=("attention/glu",),
    pattern=("attention/moe", "attention/glu"),
    ffn="moe",
    opts=SMALL,
  )
  params = lm.init(config, jax.random.key(0))
  # The router of layer 3 alone is far from even.
  kernel = params["groups"]["0"]["ffn"]["router"]["logits"]["kernel"]
  params["groups"]["0"]["ffn"]["router"]["logits"]["kernel"] = kernel.at[
    1
  ].multiply(30)
  run = jax.jit(functools.partial(lm.apply, config))
  output = run(params, jnp.arange(T)[None])
  assert output.penalty_B.shape == (1,)
  entropy = np.asarray(output.measures["entropy"])[:, 0]
  assert entropy.shape == (3,)  # layers 1, 3 and 5
  assert entropy[1] < 0.5 * min(entropy[0], entropy[2])
  np.testing.assert_allclose(
    output.penalty_B, 0.01 * output.measures["balance"].sum(0), rtol=1e-6
  )


@pytest.mark.parametrize(
  ("opts", "message"),
  [
    ({"moe.top_k": 5}, "top_k=5 is more than n_experts=4"),
    ({"moe.n_experts": 0}, "n_experts=0 must be at least 1"),
    ({"moe.shared_gate": True}, "shared_experts=0; set it to 1"),
    ({"moe.capacity_factor": -1.0}, "capacity_factor=-1.0 must not be neg"),
    ({"moe.router": "sofmax"}, "did you mean 'softmax'"),
    ({"moe.expert": "moe"}, "would never end"),
    ({"moe.expert": "gul"}, "did you mean 'glu'"),
    ({"moe.router": "switch"}, "top_k=2: model.opts.moe.router='switch'"),
    ({"softmax.n_groups": 3}, "does not divide model.opts.moe.n_experts=4"),
    ({"moe.top_k": 1}, "softmax.renormalize=True makes the weight of a lone"),
    ({"softmax.top_groups": 2}, "must be from 1 to"),
    ({"softmax.n_groups": 4}, "top_k=2 is more than the 1 experts of"),
    ({"softmax.balance_over": "all"}, "is not one of row, batch"),
    ({"softmax.balance_loss": -0.1}, "balance_loss=-0.1 must not be negative"),
    ({"moe.router": "hash", "hash.z_loss": 0.1}, "hash.z_loss is not an optio"),
  ],
)
def test_what_can_not_work_is_refused(model_config, opts, message):
  with pytest.raises(UserError) as error:
    model_config(ffn="moe", opts=SMALL | opts)
  assert message in str(error.value)


@pytest.mark.parametrize(
  ("model", "message"),
  [
    ({"use_bias": True}, "model.use_bias=True: the experts"),
    ({"matmul": "fp8"}, "model.matmul='fp8' has no product"),
    ({"mup_base": 12, "mup_grows": "head_dim"}, "muP has no rule for routers"),
  ],
)
def test_what_a_mixture_lacks_is_refused(model_config, model, message):
  with pytest.raises(UserError) as error:
    model_config(ffn="moe", opts=SMALL, **model)
  assert message in str(error.value)
