"""A bare Linen loop, as one would write it in an afternoon.

Plain `nn.Dense` layers one after another, `optax.adamw`, the whole logits, no
packing, no mesh.
"""

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from worker import B, T, serve, tokens


class BareBlock(nn.Module):
  """A Llama block as one would write it in an afternoon."""

  d_model: int
  n_heads: int
  n_kv_heads: int
  ff_dim: int

  @nn.compact
  def __call__(self, x):
    head = self.d_model // self.n_heads
    dense = lambda n, name: nn.Dense(n, use_bias=False, name=name)  # noqa: E731
    h = nn.RMSNorm()(x)
    q = dense(self.n_heads * head, "q")(h).reshape(B, T, self.n_heads, head)
    k = dense(self.n_kv_heads * head, "k")(h)
    v = dense(self.n_kv_heads * head, "v")(h)
    k = k.reshape(B, T, self.n_kv_heads, head)
    v = v.reshape(B, T, self.n_kv_heads, head)
    angle = jnp.arange(T)[:, None] * 1e4 ** (-jnp.arange(0, head, 2) / head)
    cos, sin = jnp.cos(angle)[:, None], jnp.sin(angle)[:, None]

    def rotate(a):
      a1, a2 = jnp.split(a, 2, axis=-1)
      return jnp.concatenate([a1 * cos - a2 * sin, a2 * cos + a1 * sin], -1)

    repeat = self.n_heads // self.n_kv_heads
    q, k = rotate(q), jnp.repeat(rotate(k), repeat, axis=2)
    v = jnp.repeat(v, repeat, axis=2)
    scores = jnp.einsum("btnh,bsnh->bnts", q, k) / head**0.5
    mask = jnp.tril(jnp.ones((T, T), bool))
    weights = jax.nn.softmax(jnp.where(mask, scores, -1e30))
    mixed = jnp.einsum("bnts,bsnh->btnh", weights, v).reshape(B, T, -1)
    x = x + dense(self.d_model, "o")(mixed)
    h = nn.RMSNorm()(x)
    h = nn.silu(dense(self.ff_dim, "gate")(h)) * dense(self.ff_dim, "up")(h)
    return x + dense(self.d_model, "down")(h)


class BareModel(nn.Module):
  """Embedding, blocks one after another, tied output."""

  shape: tuple

  @nn.compact
  def __call__(self, tokens):
    shape = dict(self.shape)
    layers, vocab = shape.pop("n_layers"), shape.pop("vocab_size")
    embed = nn.Embed(vocab, shape["d_model"])
    x = embed(tokens)
    for _ in range(layers):
      x = BareBlock(**shape)(x)
    return embed.attend(nn.RMSNorm()(x))


def make(shape):
  model = BareModel(tuple(shape.items()))
  params = model.init(jax.random.key(0), jnp.zeros((B, T), jnp.int32))
  optimizer = optax.adamw(1e-3, b2=0.95, weight_decay=0.1)
  state = (params, optimizer.init(params))
  n = sum(a.size for a in jax.tree.leaves(params))
  drawn = jnp.asarray(tokens(shape["vocab_size"]))
  inputs, targets = drawn[:, :-1], drawn[:, 1:]

  def loss_fn(params):
    logits = model.apply(params, inputs)
    return optax.softmax_cross_entropy_with_integer_labels(
      logits, targets
    ).mean()

  def train_step(state):
    params, opt_state = state
    loss, grads = jax.value_and_grad(loss_fn)(params)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return (optax.apply_updates(params, updates), opt_state), loss

  train_step = jax.jit(train_step, donate_argnums=0)

  def step():
    nonlocal state
    state, loss = train_step(state)
    return loss.block_until_ready()

  versions = f"flax {flax.__version__}, jax {jax.__version__}"
  return step, {"parameters": n, "versions": versions}


if __name__ == "__main__":
  serve(make)
