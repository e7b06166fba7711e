"""Options of mixers and positions so small that each matters in short rows."""

OPTIONS = {
  "sliding_window": {"window": 5},
  "streaming": {"window": 5, "first": 2},
  "segment_recurrence": {"segment": 4, "memory": 3},
  "mla": {"kv_rank": 12, "rope_dim": 4},
  "strided": {"stride": 3},
  "fixed": {"stride": 4, "summary": 1},
  "longformer": {"window": 4, "n_global": 2},
  "bigbird": {"block": 2, "window": 2},
  "native_sparse": {
    "block": 4,
    "stride": 2,
    "select_block": 4,
    "n_selected": 4,
    "window": 3,
  },
  "mamba": {"state": 4},
  "mamba2": {"state": 6, "groups": 2},
  "mamba3": {"state": 6, "groups": 2},
  "rwkv6": {"mix_rank": 3, "decay_rank": 4},
  "rwkv7": {
    "decay_rank": 3,
    "rate_rank": 4,
    "value_rank": 2,
    "gate_rank": 5,
  },
  "s4d": {"state": 6},
  "h3": {"state": 6, "shift": 5},
  "gla": {"gate_rank": 3},
  "hyena": {"order": 3, "bands": 2, "filter_width": 8},
  "multi_hyena": {"bands": 2, "filter_width": 8},
  "ttt_linear": {"batch": 4},
  "moe": {"n_experts": 4, "expert_dim": 16},
  "rerope": {"window": 6},
  "t5": {"buckets": 8, "max_distance": 12},
  "deberta": {"max_distance": 8},
  # Beyond it one pass is that of the whole length, as their files say; what
  # they do there is in models/test_softmax_mixers.py.
  "dynamic_ntk": {"original_len": 200},
  "consistent_ntk": {"original_len": 200},
  "longrope": {"original_len": 200},
}


def small_options(*entries: str) -> dict[str, object]:
  """As overrides of `model.opts`: "entry.option" -> value."""
  return {
    f"{entry}.{option}": value
    for entry in entries
    for option, value in OPTIONS.get(entry, {}).items()
  }
