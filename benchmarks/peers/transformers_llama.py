"""Hugging Face transformers' LlamaForCausalLM, torch on the CPU, eager.

fp32, scaled-dot-product attention, fused AdamW, as many threads as cores.
"""

import torch
import transformers
from worker import serve, tokens


def make_with(shape, compiled):
  torch.manual_seed(0)
  config = transformers.LlamaConfig(
    hidden_size=shape["d_model"],
    num_hidden_layers=shape["n_layers"],
    num_attention_heads=shape["n_heads"],
    num_key_value_heads=shape["n_kv_heads"],
    intermediate_size=shape["ff_dim"],
    vocab_size=shape["vocab_size"],
    tie_word_embeddings=True,
    attn_implementation="sdpa",
    use_cache=False,
  )
  model = transformers.LlamaForCausalLM(config).train()
  optimizer = torch.optim.AdamW(
    model.parameters(), 1e-3, (0.9, 0.95), weight_decay=0.1, fused=True
  )
  ids = torch.from_numpy(tokens(shape["vocab_size"])).long()
  inputs, targets = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()

  def loss_of(inputs, targets):
    logits = model(input_ids=inputs).logits
    return torch.nn.functional.cross_entropy(
      logits.flatten(0, 1), targets.flatten()
    )

  if compiled:
    loss_of = torch.compile(loss_of)

  def step():
    loss = loss_of(inputs, targets)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.detach()

  return step, {
    "parameters": sum(p.numel() for p in model.parameters()),
    "versions": f"transformers {transformers.__version__},"
    f" torch {torch.__version__}",
  }


if __name__ == "__main__":
  serve(lambda shape: make_with(shape, compiled=False))
