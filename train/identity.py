"""What makes two runs the same run: all that can change a trained number."""

import copy
import functools
import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

# Namespaces that say how a run is carried out; a resumed run may change them
# (and data.prefetch, data.eval_lengths).
HOW = ("mesh", "eval", "checkpoint", "log")

# The default rule of what has no decay, now and when it had less to name.
UNDECAYED = (
  r"(^|/)(\w*bias|scale|sinks|alpha|lambda_\w+"
  r"|log_\w+|frequency|skip|bonus|mix\w*)$"
)
UNDECAYED_BEFORE = r"(^|/)(bias|scale)$"

# Mixers whose options are attention's, and more.
_LIKE_ATTENTION = (
  *("attention", "sliding_window", "cross_attention", "segment_recurrence"),
  *("streaming", "differential", "strided", "fixed", "longformer", "bigbird"),
)
# Keys that came when there were runs already, with what means off. There they
# are not in the hash, and a `config.json` without them has them so.
ADDED_LATER: dict[str, Any] = {
  "model.mup_base": 0,
  "model.mup_grows": "",
  "model.output_bias": False,
  "model.embed_rank": 0,
  "model.tie_embed_maps": True,
  "model.n_ahead": 0,
  "model.embed_scale": 1.0,
  "model.embed_norm": False,
  "model.first": [],
  "data.task": "",
  "data.eval_lengths": [0],
  "eval.stretch": "",
  "model.opts.rope.pairing": "halves",
  "model.opts.rope.fraction": 1.0,
  "model.opts.attention.position": "",
  "model.opts.attention.scale": 0.0,
  "model.opts.attention.soft_cap": 0.0,
  "model.opts.attention.sinks": False,
  "model.opts.attention.qk_norm": "none",
  "model.opts.attention.log_n": 0,
  "model.opts.attention.qkv_bias": False,
  "model.opts.attention.clip_qkv": 0.0,
  "model.opts.attention.o_bias": False,
  "model.opts.attention.qk_norm_of": "each head",
  "model.opts.layer_norm.bias": True,
  **{f"model.opts.{word}.gate": "none" for word in _LIKE_ATTENTION},
  "model.opts.glu.bias": False,
  "model.opts.glu.multipliers": [1.0, 1.0],
  "model.opts.mamba.n_heads": 1,
  "model.opts.mamba.inner_norm": "none",
  "model.opts.mamba.inner_norm_eps": 0.0,
  "model.opts.mamba2.channels": 0,
  "model.opts.mamba2.norm": True,
  "model.opts.mamba2.multipliers": [1.0] * 5,
  "model.opts.rg_lru.bias": False,
  **{
    f"model.opts.{word}.{key}": 0
    for word in ("delta_net", "gated_delta_net")
    for key in ("n_heads", "n_key_heads")
  },
}


def hash_of(resolved: Mapping[str, Any]) -> str:
  """Of a resolved config, as nested plain values; not of how it is run.

  A plugin counts by its text, not by its path.
  """
  same = {k: v for k, v in copy.deepcopy(resolved).items() if k not in HOW}
  for key in ("prefetch", "eval_lengths"):
    same["data"].pop(key, None)
  for key, off in ADDED_LATER.items():
    *path, last = key.split(".")
    # Options are there of chosen entries alone.
    node = functools.reduce(lambda n, k: n.get(k, {}), path, same)
    if node.get(last) == off:
      del node[last]
  for norm in ("rms_norm", "layer_norm"):  # when norms had no options
    if not same["model"]["opts"].get(norm, True):
      del same["model"]["opts"][norm]
  rules = same["opt"]["decay_rules"]
  same["opt"]["decay_rules"] = [
    [UNDECAYED_BEFORE if rule == UNDECAYED else rule, factor]
    for rule, factor in rules
  ]
  same["plugins"] = [
    pathlib.Path(path).read_text(encoding="utf-8")
    for path in resolved["plugins"]
  ]
  text = json.dumps(same, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:10]
