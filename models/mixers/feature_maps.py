"""Feature maps of linear attention: phi(q) phi(k) in the place of exp(q k)."""

import math
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..config import ModelConfig
from ..linear import Projection
from ..param import declare, zeros


class FeatureMap(nn.Module):
  """Maps the H numbers of a head to F features.

  Attributes:
    n_features: how many are asked for, where a map may have any number.
    positive: none is below 0, so that one may divide by their sum.
  """

  config: ModelConfig
  n_features: int = 0

  positive: ClassVar[bool] = True

  @classmethod
  def size(cls, H: int, n_features: int) -> int:
    """F."""
    del n_features
    return H

  def __call__(self, x_BTNH: Float[Array, "B T N H"]) -> Array:
    raise NotImplementedError(f"{type(self).__name__} must define __call__")


class Elu(FeatureMap):
  """elu(x) + 1 (Katharopoulos et al. 2020, arXiv:2006.16236)."""

  def __call__(self, x_BTNH):
    return jax.nn.elu(x_BTNH) + 1


class Relu(FeatureMap):
  """relu(x)."""

  def __call__(self, x_BTNH):
    return jax.nn.relu(x_BTNH)


class Identity(FeatureMap):
  """x itself."""

  positive = False

  def __call__(self, x_BTNH):
    return x_BTNH


class Taylor(FeatureMap):
  """1 + s + s^2 / 2, s = q k / sqrt(H): Based (arXiv:2402.18668)."""

  @classmethod
  def size(cls, H, n_features):
    del n_features
    return 1 + H + H * H

  def __call__(self, x_BTNH):
    H = x_BTNH.shape[-1]
    x_BTNH = x_BTNH / H**0.25
    pairs = x_BTNH[..., :, None] * x_BTNH[..., None, :] / math.sqrt(2)
    pairs = pairs.reshape(*x_BTNH.shape[:-1], H * H)
    ones = jnp.ones_like(x_BTNH[..., :1])
    return jnp.concatenate([ones, x_BTNH, pairs], axis=-1)


def directions(H: int, n: int) -> np.ndarray:
  """n rows, orthogonal in blocks of H, as long as normal vectors are."""
  rng = np.random.default_rng(0)
  blocks = []
  for _ in range(-(-n // H)):
    q, r = np.linalg.qr(rng.normal(size=(H, H)))
    # QR prefers some signs; without these it is uniform.
    blocks.append(q * np.sign(np.diag(r)))
  lengths = np.linalg.norm(rng.normal(size=(n, H)), axis=1)
  return np.concatenate(blocks)[:n] * lengths[:, None]


class Random(FeatureMap):
  """Positive random features, Performer (arXiv:2009.14794).

  In the mean over directions w, exp(w q - |q|^2 / 2) exp(w k - |k|^2 / 2) is
  exp(q k). The directions are the same for all heads, and fixed.
  """

  @classmethod
  def size(cls, H, n_features):
    return n_features or H

  def __call__(self, x_BTNH):
    H = x_BTNH.shape[-1]
    w_FH = jnp.asarray(directions(H, self.size(H, self.n_features)), "float32")
    x_BTNH = x_BTNH / H**0.25
    half_BTN1 = jnp.square(x_BTNH).sum(-1, keepdims=True) / 2
    # At most exp(|w|^2 / 2): no maximum over tokens need be taken away.
    return jnp.exp(x_BTNH @ w_FH.T - half_BTN1) / math.sqrt(len(w_FH))


class Hedgehog(FeatureMap):
  """softmax([W x + b, -W x - b]) (Zhang et al. 2024, arXiv:2402.04347)."""

  @classmethod
  def size(cls, H, n_features):
    del n_features
    return 2 * H

  @nn.compact
  def __call__(self, x_BTNH):
    N, H = x_BTNH.shape[2:]
    dtype = self.config.param_dtype
    shape, axes = (N, H, H), ("heads", "head_dim", "latent")
    into = (self.config, "BTNH,NHF->BTNF", shape, axes)
    project = Projection(*into, bias=False, initial=_identity, name="map")
    b_NF = declare(self, "bias", zeros, (N, H), ("heads", "latent"), dtype)
    y_BTNF = project(x_BTNH).astype(jnp.float32) + b_NF
    return jax.nn.softmax(jnp.concatenate([y_BTNF, -y_BTNF], axis=-1), axis=-1)


def _identity(key, shape, dtype):
  del key
  return jnp.broadcast_to(jnp.eye(shape[-1], dtype=dtype), shape)


FEATURE_MAPS = {
  "elu": Elu,
  "relu": Relu,
  "identity": Identity,
  "taylor": Taylor,
  "random": Random,
  "hedgehog": Hedgehog,
}
