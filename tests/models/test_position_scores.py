"""What positions add to scores, against their formulas in float64."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ablax.errors import UserError
from ablax.models.lm import apply, init, param_specs
from ablax.models.once import Once
from ablax.models.param import init_params, specs
from ablax.models.positions import POSITIONS, Asked
from ablax.models.positions.sinusoidal import sinusoid

PROVES = (
  "position:none",
  "position:learned",
  "position:sinusoidal",
  "position:alibi",
  "position:transformer_xl",
  "position:tupe",
  "position:rerope",
)
AGAINST = "float64 formula"

B, T, N, H = 2, 11, 4, 6


class Scores:
  """A position's scores of random queries and keys, and all behind them."""

  def __init__(self, config, word, causal=True):
    keys = jax.random.split(jax.random.key(0), 4)
    self.q = jax.random.normal(keys[0], (B, T, N, H))
    self.k = jax.random.normal(keys[1], (B, T, N, H))
    # Each row begins elsewhere in its document.
    self.at = jnp.arange(T)[None] + jnp.array([[0], [5]])
    once = Once(config, ("attention",))
    declared = specs(once)
    self.shared_params = self.drawn(declared, keys[2])
    shared = once.apply({"params": self.shared_params})
    shared = (shared or {}).get(word)
    asked = Asked(self.q, self.k, self.at, self.at, 0.3, causal, shared, T)
    position = POSITIONS[word](config)

    def scores(module):
      q, k = (module.rotate(a, self.at) for a in (self.q, self.k))
      s_BNTS = asked.scale * jnp.einsum("BTNH,BSNH->BNTS", q, k)
      pairs = module.scores(asked)
      return s_BNTS if pairs is None else pairs(s_BNTS)

    declared = specs(position, asked=asked, method="scores")
    self.params = self.drawn(declared, keys[3])
    run = jax.jit(nn.apply(scores, position))
    self.got = np.asarray(run({"params": self.params}))

  @staticmethod
  def drawn(declared, key):
    """Initial values, and none of them 0 or 1."""
    leaves, tree = jax.tree.flatten(init_params(declared, key))
    keys = jax.random.split(key, max(1, len(leaves)))
    return tree.unflatten(
      a + 0.3 * jax.random.normal(k, a.shape)
      for a, k in zip(leaves, keys, strict=False)
    )

  def compare(self, score):
    """With `score(b, t, s, n, q, k)`, at all pairs that are causal."""
    q, k = np.asarray(self.q, np.float64), np.asarray(self.k, np.float64)
    for b, t, s, n in np.ndindex(B, T, T, N):
      if s <= t:
        want = score(b, t, s, n, q[b, t, n], k[b, s, n])
        # fp32: sums of some 50 products of size 1.
        np.testing.assert_allclose(self.got[b, n, t, s], want, atol=2e-5)


@pytest.fixture
def scores(model_config):
  def make(word, causal=True, **opts):
    config = model_config(
      position=word,
      head_dim=H,
      opts={f"{word}.{k}": v for k, v in opts.items()},
    )
    return Scores(config, word, causal)

  return make


def waves(position, size):
  frequency = 10_000.0 ** (-np.arange(0, size, 2) / size)
  angle = position * frequency
  return np.concatenate([np.sin(angle), np.cos(angle)])


def turned(x, position):
  """RoPE by complex numbers."""
  z = x[: H // 2] + 1j * x[H // 2 :]
  z = z * np.exp(1j * position * 10_000.0 ** (-2 * np.arange(H // 2) / H))
  return np.concatenate([z.real, z.imag])


def test_none_leaves_scores_alone(scores):
  scores("none").compare(lambda b, t, s, n, q, k: 0.3 * q @ k)


def test_alibi_subtracts_the_distance_times_the_slope(scores):
  def score(b, t, s, n, q, k):
    return 0.3 * q @ k - 2.0 ** (-8 * (n + 1) / N) * (t - s)

  scores("alibi").compare(score)


@pytest.mark.parametrize("causal", [True, False])
def test_transformer_xl_is_its_four_terms(scores, causal):
  found = scores("transformer_xl", causal)
  p = jax.tree.map(lambda a: np.asarray(a, np.float64), found.params)

  def score(b, t, s, n, q, k):
    r = waves(t - s, 24) @ p["r"]["kernel"][:, n]
    u, v = p["content_bias"][n], p["position_bias"][n]
    return 0.3 * (q @ k + q @ r + u @ k + v @ r)

  found.compare(score)


def test_tupe_adds_scores_of_positions_alone(scores):
  found = scores("tupe")
  p = found.shared_params["tupe"]
  p = jax.tree.map(lambda a: np.asarray(a, np.float64), p)
  x = p["table"] - p["table"].mean(-1, keepdims=True)
  x /= np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5)
  x = x * p["norm"]["scale"] + p["norm"]["bias"]
  at = np.asarray(found.at)

  def score(b, t, s, n, q, k):
    of_q = x[at[b, t]] @ p["q"]["kernel"][:, n]
    of_k = x[at[b, s]] @ p["k"]["kernel"][:, n]
    return 0.3 * q @ k / np.sqrt(2) + of_q @ of_k / np.sqrt(2 * H)

  found.compare(score)


def test_rerope_ends_at_its_window(scores):
  def score(b, t, s, n, q, k):
    return 0.3 * turned(q, min(t - s, 4)) @ k

  scores("rerope", window=4).compare(score)


def test_rerope_refuses_to_look_ahead(scores):
  with pytest.raises(UserError, match="'rerope' knows what came before"):
    scores("rerope", causal=False)


def test_sinusoids_are_the_papers_in_halves():
  got = sinusoid(jnp.array([[0, 3, 1999]]), 8)[0]
  for row, position in zip(got, (0, 3, 1999), strict=True):
    # An fp32 angle of 1999 is off by up to 6e-5.
    np.testing.assert_allclose(row, waves(position, 8), rtol=0, atol=2e-4)


def hidden(config, params, positions):
  tokens = jnp.broadcast_to(jnp.arange(7), (2, 7))
  return apply(config, params, tokens, positions).hidden_BTD


def test_a_learned_position_is_a_row_of_its_table(model_config):
  """Moved by a table whose rows are moved as well, nothing changes."""
  config = model_config(position="learned")
  params = init(config, jax.random.key(0))
  at = jnp.broadcast_to(jnp.arange(7), (2, 7))
  first, later = hidden(config, params, at), hidden(config, params, at + 9)
  assert np.abs(first - later).max() > 0.01
  moved = dict(params)
  moved["position"] = {"table": jnp.roll(params["position"]["table"], 9, 0)}
  again = hidden(config, moved, at + 9)
  np.testing.assert_allclose(again, first, rtol=0, atol=1e-5)  # fp32


def test_the_sinusoidal_embedding_is_the_papers(model_config):
  config = model_config(position="sinusoidal")
  x = np.random.default_rng(0).normal(size=(1, 3, 24)).astype(np.float32)
  at = jnp.array([[0, 5, 30]])
  got = POSITIONS["sinusoidal"](config).apply({}, x, at, method="embed")
  want = x * np.sqrt(24) + np.stack([waves(p, 24) for p in (0, 5, 30)])
  np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)  # fp32 angles to 30


@pytest.mark.parametrize("word", ["learned", "tupe"])
def test_a_row_past_the_table_is_refused(model_config, word):
  config = model_config(position=word, max_len=8)
  params = init(config, jax.random.key(0))
  with pytest.raises(UserError, match=r"table of model.max_len=8 .* 9 tokens"):
    apply(config, params, jnp.zeros((1, 9), jnp.int32))


def test_what_is_made_once_is_one_array_for_all_layers(model_config):
  for word, path in (("t5", "bias"), ("deberta", "table"), ("tupe", "table")):
    config = model_config(position=word, n_layers=3)
    table = param_specs(config)["positions"][word][path]
    assert not table.stacked and table.axes[0] in ("buckets", "positions")


def test_layers_may_have_positions_of_their_own(model_config):
  """As in Gemma 3: local layers turn faster than global ones, or t5 there."""
  config = model_config(
    pattern=("sliding_window", "attention"),
    position="rope",
    opts={"attention.position": "t5", "t5.buckets": 8},
  )
  assert config.options("t5").buckets == 8
  declared = param_specs(config)
  assert declared["positions"].keys() == {"t5"}
  params = init(config, jax.random.key(0))

  def loss(params):
    return hidden(config, params, jnp.arange(7)[None].repeat(2, 0)).sum()

  assert np.abs(jax.grad(loss)(params)["positions"]["t5"]["bias"]).max() > 0


def test_an_absolute_position_is_no_layers_own(model_config):
  with pytest.raises(
    UserError, match=r"opts.attention.position='learned' acts"
  ):
    model_config(opts={"attention.position": "learned"})
