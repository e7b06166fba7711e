"""TTT-Linear in torch, whose inner gradients are torch's own.

A module written from the paper and the authors' description: each token's loss
is differentiated by the weights of its mini-batch, and each W_t is made.
"""

import functools

import pytest
import torch
from peers import B, Case, D, T, check

PROVES = ("mixer:ttt_linear",)
AGAINST = {"mixer:ttt_linear": "its inner loop by autograd, in torch"}

N, H, Q = 4, 6, 4
SHAPES = {
  "v_kernel": (D, N, H),
  "lr_kernel": (D, N),
  "lr_bias": (N,),
  "start_kernel": (N, H, H),
  "start_bias": (N, H),
  "start_scale": (N, H),
  "start_norm_bias": (N, H),
  "start_share_bias": (Q,),
  "norm_scale": (N, H),
  "norm_bias": (N, H),
  "o_kernel": (N, H, D),
}
MAMBA = {
  "qk_kernel": (D, N, H),
  "conv_q_kernel": (4, N, H),
  "conv_q_bias": (N, H),
  "conv_k_kernel": (4, N, H),
  "conv_k_bias": (N, H),
  "gate_kernel": (D, N, H),
}
TRANSFORMER = {"q_kernel": (D, N, H), "k_kernel": (D, N, H)}


class TTTLinear(torch.nn.Module):
  """The layer of one document."""

  def __init__(self, shapes, base_lr):
    super().__init__()
    for name, shape in shapes.items():
      self.register_parameter(name, torch.nn.Parameter(torch.zeros(shape)))
    self.base_lr = base_lr

  def by_head(self, x, name):
    return torch.einsum("btd,dnh->bnth", x, getattr(self, f"{name}_kernel"))

  def conv(self, x, name):
    kernel = getattr(self, f"conv_{name}_kernel")
    bias = getattr(self, f"conv_{name}_bias")
    channels = x.transpose(2, 3).flatten(1, 2)
    y = torch.nn.functional.conv1d(
      torch.nn.functional.pad(channels, (len(kernel) - 1, 0)),
      kernel.flatten(1).T[:, None],
      bias.flatten(),
      groups=N * H,
    )
    return y.unflatten(1, (N, H)).transpose(2, 3)

  def turned(self, x):
    angle = torch.outer(
      torch.arange(T) % Q, 10_000.0 ** (-torch.arange(H // 2) * 2 / H)
    )
    turn = torch.polar(torch.ones_like(angle), angle)
    y = torch.complex(*x.chunk(2, -1)) * turn
    return torch.cat([y.real, y.imag], -1)

  def f(self, W, b, x):
    """Of tokens [B, N, H], each with weights of its own."""
    z = torch.einsum("bnh,bnhj->bnj", x, W) + b
    y = torch.nn.functional.layer_norm(z, (H,), eps=1e-6)
    return x + self.start_scale * y + self.start_norm_bias

  def forward(self, x):
    if hasattr(self, "qk_kernel"):
      both = self.by_head(x, "qk")
      q, k = self.conv(both, "q"), self.conv(both, "k")
    else:
      q, k = self.by_head(x, "q"), self.by_head(x, "k")
    q, k, v = self.turned(q), self.turned(k), self.by_head(x, "v")
    eta = torch.sigmoid(x @ self.lr_kernel + self.lr_bias).transpose(1, 2)
    eta = eta * self.base_lr / H
    share = (1 / torch.arange(1, Q + 1) + self.start_share_bias).clamp_min(0)
    W = self.start_kernel.expand(B, N, H, H)
    b = self.start_bias.expand(B, N, H)
    found = []
    for first in range(0, T, Q):
      U = W, b
      total = [torch.zeros_like(a) for a in U]
      for t in range(first, min(first + Q, T)):
        loss = (self.f(*U, k[:, :, t]) - v[:, :, t]).square().sum() / 2
        grads = torch.autograd.grad(loss, U, create_graph=True)
        rates = eta[:, :, t, None, None], eta[:, :, t, None]
        total = [a + r * g for a, r, g in zip(total, rates, grads, strict=True)]
        W, b = (u - share[t - first] * a for u, a in zip(U, total, strict=True))
        found.append(self.f(W, b, q[:, :, t]))
    z = torch.stack(found, 1).flatten(2)
    z = torch.nn.functional.layer_norm(
      z,
      (N * H,),
      self.norm_scale.flatten(),
      self.norm_bias.flatten(),
      eps=1e-5,
    ).unflatten(2, (N, H))
    if hasattr(self, "gate_kernel"):
      gate = self.by_head(x, "gate").transpose(1, 2)
      z = z * torch.nn.functional.gelu(gate, approximate="tanh")
    return torch.einsum("btnh,nhd->btd", z, self.o_kernel)


def named(ours):
  return {
    path.removeprefix("mixer/").replace("/", "_"): value
    for path, value in ours.items()
  }


def build(shapes, config):
  peer = TTTLinear(shapes, config.opts["ttt_linear"].base_lr)
  return peer, lambda x, mask: peer(x)


@pytest.mark.parametrize(
  ("opts", "shapes"),
  [({}, MAMBA), ({"conv": 0, "gate": False, "base_lr": 3.0}, TRANSFORMER)],
)
def test_it_is_the_layer_with_gradients_by_autograd(model_config, opts, shapes):
  opts = {f"ttt_linear.{k}": v for k, v in {"batch": Q, **opts}.items()}
  case = Case(
    "ttt_linear",
    {"n_heads": N, "head_dim": H, "opts": opts},
    named,
    functools.partial(build, SHAPES | shapes),
  )
  check(case, model_config)
