"""Accounting: closed formulas in the legend's letters, against the program."""

import functools

import jax
import pytest

from ablax.parallel.mesh import MeshConfig, make_mesh
from ablax.parallel.rules import Layout
from ablax.train.accounting import (
  PARTS,
  Flops,
  accounts,
  activations_by_remat,
  decode_bytes,
  flops_by_part,
)
from ablax.train.setup import Setup

V = 128


@pytest.fixture(scope="module")
def make(small):
  def of(**changes):
    config = small(**changes).with_vocab(V)
    mesh = make_mesh(MeshConfig.of(), jax.devices()[:1])
    return Setup.of(config, Layout.of(mesh, config.mesh.rules))

  return of


@pytest.fixture(scope="module")
def account(make):
  return functools.cache(lambda **changes: accounts(make(**changes)))


@pytest.fixture(scope="module")
def letters(small):
  """(L, D, N, K, H, F, T) of the small config."""
  config = small()
  m = config.model
  sizes = (m.n_layers, m.d_model, m.n_heads, m.n_kv_heads, m.head_dim)
  return (*sizes, m.ff_dim, config.data.seq_len)


def layer_weights(letters):
  L, D, N, K, H, F, _ = letters
  return L * (D * N * H + 2 * D * K * H + N * H * D + 3 * D * F)


def test_parameters_are_those_of_the_closed_formula(account, letters):
  L, D = letters[:2]
  norms = (2 * L + 1) * D
  tied = account()
  assert tied.params == layer_weights(letters) + norms + V * D
  assert tied.embedding_params == V * D
  untied = account(model__tie_embeddings=False)
  assert untied.params == tied.params + V * D
  assert untied.embedding_params == 2 * V * D
  biased = account(model__use_bias=True).params - tied.params
  _, _, N, K, H, F, _ = letters
  assert biased == L * (N * H + 2 * K * H + D + 2 * F + D)


def test_bytes_follow_the_number_formats(account):
  full, half = account(), account(model__param_dtype="bfloat16")
  assert full.param_bytes == 4 * full.params == 2 * half.param_bytes
  # Two moments of each parameter, and AdamW's count of updates.
  assert full.opt_bytes == 2 * full.param_bytes + 4
  assert account(opt__name="sgd").opt_bytes == full.param_bytes


@pytest.mark.parametrize("remat", ["none", "full"])
@pytest.mark.parametrize("unroll", [1, 2])
@pytest.mark.parametrize("tied", [True, False])
def test_forward_flops_are_those_of_the_closed_formula(
  account, letters, remat, unroll, tied
):
  L, D, N, _, H, _, T = letters
  weights = layer_weights(letters) + V * D  # the output, tied or not
  found = account(
    model__remat=remat, model__scan_unroll=unroll, model__tie_embeddings=tied
  )
  # Scores and values over all T keys, for each of N heads.
  assert found.forward_flops == 2 * weights + 4 * T * N * H * L
  assert found.train_flops == 3 * found.forward_flops


# Options, and how many of T keys a query then sees.
SEEN = {
  "sliding_window": ({"window": 5}, lambda T: 5),
  "streaming": ({"window": 5, "first": 2}, lambda T: 7),
  "segment_recurrence": ({"segment": 4, "memory": 6}, lambda T: 6 + 2),
  "strided": ({"stride": 3}, lambda T: 3 + T // 3),
  "fixed": ({"stride": 4, "summary": 1}, lambda T: 4 + T // 4),
  "longformer": ({"window": 4, "n_global": 2}, lambda T: 6),
  "bigbird": (
    {"block": 2, "window": 2, "n_global": 1, "n_random": 1},
    lambda T: 8,
  ),
}


@pytest.mark.parametrize("mixer", SEEN)
def test_sparse_attention_costs_the_keys_that_a_query_sees(
  account, letters, mixer
):
  L, D, N, K, H, _, T = letters
  options, seen = SEEN[mixer]
  opts = {
    f"model__opts__{mixer}__{option}": value
    for option, value in options.items()
  }
  whole, sparse = account(), account(model__mixer=mixer, **opts)
  less = 4 * (T - seen(T)) * N * H * L
  if mixer == "segment_recurrence":  # keys and values of both copies
    less -= 4 * D * K * H * L
  assert whole.forward_flops - sparse.forward_flops == less != 0


@pytest.mark.parametrize("remat", ["none", "dots"])
def test_experts_cost_the_tokens_that_they_get(account, letters, remat):
  L, D, _, _, _, F, _ = letters
  n_experts, top_k, shared = 6, 2, 1
  opts = {"n_experts": n_experts, "top_k": top_k, "shared_experts": shared}
  dense, experts = (
    account(model__remat=remat, **more)
    for more in (
      {},
      {"model__ffn": "moe"}
      | {f"model__opts__moe__{key}": value for key, value in opts.items()},
    )
  )
  router, one = 2 * D * n_experts * L, 6 * D * F * L
  more = router + (top_k + shared - 1) * one
  assert experts.forward_flops - dense.forward_flops == more
  # No product is made twice, whatever the other recomputation.
  again = experts.executed_flops - dense.executed_flops
  assert again == pytest.approx(3 * more, rel=1e-3)
  assert experts.params - dense.params == L * (
    D * n_experts + (n_experts + shared - 1) * 3 * D * F
  )


def parts(setup):
  """Forward FLOPs of each part that has any; its gradient costs twice that."""
  found = {part: f for part, f in flops_by_part(setup).items() if f.forward}
  assert all(f.backward == 2 * f.forward for f in found.values())
  return {part: f.forward for part, f in found.items()}


def test_parts_are_those_of_the_closed_formula(make, account, letters):
  L, D, N, K, H, F, T = letters
  found = parts(make())
  assert found == {
    "head": 2 * D * V,
    "mixer": 2 * L * (2 * D * N * H + 2 * D * K * H),
    "attention": 4 * L * T * N * H,
    "ffn": 6 * L * D * F,
  }
  assert sum(found.values()) == account().forward_flops


def test_a_technique_costs_where_it_stands(make, letters):
  L, D, N, K, H, F, _ = letters
  E, k, rank, window = 6, 2, 5, 7
  experts = {"n_experts": E, "top_k": k, "shared_experts": 0}
  assert parts(
    make(
      model__mixer="sliding_window",
      model__opts__sliding_window__window=window,
      model__ffn="moe",
      model__embed_rank=rank,
      # Recomputation is no part of what is needed.
      model__remat="full",
      **{f"model__opts__moe__{key}": n for key, n in experts.items()},
    )
  ) == {
    "head": 2 * rank * (V + 2 * D),  # the way in, the way out and the table
    "mixer": 2 * L * (2 * D * N * H + 2 * D * K * H),
    "attention": 4 * L * window * N * H,
    "ffn": 2 * L * D * (E + k * 3 * F),
  }


def test_latents_cost_where_they_stand(make, letters):
  L, D, N, _, H, F, T = letters
  C, R = 7, 4
  opts = {"model__opts__mla__kv_rank": C, "model__opts__mla__rope_dim": R}
  wide = N * (H + R)  # queries and keys, with the part that is turned
  assert parts(make(model__mixer="mla", **opts)) == {
    "head": 2 * D * V,
    "mixer": 2 * L * (D * wide + D * (C + R) + 2 * C * N * H + N * H * D),
    "attention": 2 * L * T * (wide + N * H),
    "ffn": 6 * L * D * F,
  }


def test_what_only_training_computes_is_counted(make, letters):
  L, D = letters[:2]
  plain = parts(make())
  assert parts(make(model__n_ahead=1, objective__name="multi_token")) == {
    # One layer more, the output matrix again, and what joins two streams.
    **{part: n * (L + 1) / L for part, n in plain.items()},
    "head": 2 * plain["head"],
    "other": 2 * 2 * D * D,
  }
  # Where experts have room for half of their tokens, the others are dropped.
  of_experts = [
    parts(make(model__ffn="moe", model__opts__moe__capacity_factor=room))["ffn"]
    for room in (1.0, 0.5)
  ]
  router = 2 * L * D * 8
  assert of_experts[0] - router == 2 * (of_experts[1] - router)


def test_what_has_no_gradient_costs_nothing_backward(make):
  found = flops_by_part(make(model__mixer="native_sparse"))
  assert set(found) == set(PARTS.values())
  attention = found["attention"]
  assert 0 < attention.backward < 2 * attention.forward
  for part in ("mixer", "ffn", "head"):
    assert found[part].backward == 2 * found[part].forward
  assert found["other"] == Flops(0.0, 0.0)


def test_loops_count_as_often_as_they_run(account, letters):
  D = letters[1]
  output = 2 * V * D
  two, six = account(), account(model__n_layers=6)
  assert six.forward_flops - output == 3 * (two.forward_flops - output)


def test_flops_do_not_depend_on_batch_or_accumulation(account):
  flops = {
    account(**changes).forward_flops
    for changes in ({}, {"data__batch_size": 4}, {"opt__accum_steps": 4})
  }
  assert len(flops) == 1


def test_recomputation_trades_bytes_for_flops(account, letters):
  none, dots, full = (
    account(model__remat=remat) for remat in ("none", "dots", "full")
  )
  assert full.activation_bytes < dots.activation_bytes < none.activation_bytes
  L, D, N, _, H, F, T = letters
  # Attention makes its scores once more: none are kept.
  scores = 2 * T * N * H * L
  assert none.executed_flops == none.train_flops + scores
  assert dots.executed_flops == dots.train_flops + scores
  # The layers once more, up to the product that nobody's gradient needs:
  # the last matmul of each.
  layers = 2 * layer_weights(letters) + 4 * T * N * H * L
  again = full.executed_flops - full.train_flops - scores
  assert again == layers - 2 * L * F * D
  assert 1.15 < full.executed_flops / full.train_flops < 4 / 3


def test_deep_models_execute_nearly_four_thirds_with_full_recomputation(
  account,
):
  deep = account(model__remat="full", model__n_layers=40)
  # All but the output matrix and the last matmul of each layer.
  assert 1.25 < deep.executed_flops / deep.train_flops < 4 / 3


def test_a_layer_keeps_what_the_policy_says(make, letters):
  """In numbers of 4 bytes, per token; "none" keeps a technique's own too."""
  _, D, N, K, H, F, T = letters
  two, four = (activations_by_remat(make(model__n_layers=n)) for n in (2, 4))
  rows = make().config.data.batch_size
  of_layer = {k: (four[k] - two[k]) / (2 * 4 * rows * T) for k in two}
  assert of_layer["full"] == D  # its input
  # q, k, v, o; gate and up. Nobody's gradient needs what down gives.
  products = N * H + 2 * K * H + D + 2 * F
  assert of_layer["no_batch_dots"] == D + products
  # The kernel's output and logsumexp.
  assert of_layer["dots"] == D + products + N * H + N
  assert of_layer["none"] > of_layer["dots"]


def test_activations_grow_with_the_microbatch_alone(account):
  whole = account(model__remat="full").activation_bytes
  half = account(model__remat="full", opt__accum_steps=2).activation_bytes
  assert 0.4 * whole < half < 0.7 * whole


def test_the_decode_state_is_keys_and_values_of_the_context(account, letters):
  L, _, _, K, H, _, _ = letters
  found = account(model__max_len=96).decode_state_bytes
  # Each slot's position and segment too, and which slot is next.
  assert found == 4 * L * (96 * (2 * K * H + 2) + 1)


def test_a_further_token_costs_what_the_state_grows(make, letters):
  L, _, _, K, H, _, _ = letters

  def growth(**changes):
    return decode_bytes(make(model__max_len=96, **changes).config)[1]

  slot = 4 * (2 * K * H + 2)  # its position and segment too
  assert growth() == L * slot
  sliding = {"model__opts__sliding_window__window": 5}
  assert growth(model__mixer="sliding_window", **sliding) == 0
  every_second = ("sliding_window", "attention")
  assert growth(model__pattern=every_second, **sliding) == slot
  # One latent and one turned part, for all heads.
  ranks = {"model__opts__mla__kv_rank": 7, "model__opts__mla__rope_dim": 4}
  assert growth(model__mixer="mla", **ranks) == L * 4 * (7 + 4 + 2)
