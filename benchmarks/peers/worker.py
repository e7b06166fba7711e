"""One side of an alternation: a process that steps when it is told to.

A peer's file calls `serve(make)`. The process prints one line of facts when it
is warm; then, for each number it reads, it takes as many steps and prints their
seconds. While it waits it uses no core.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

B, T = 8, 256


def serve(
  make: Callable[[dict[str, Any]], tuple[Callable[[], Any], dict[str, Any]]],
) -> None:
  """Runs a peer.

  Args:
    make: from a shape to (step, facts); `step()` returns when it has ended,
      with the loss. `facts` has the parameters and the versions.
  """
  start = time.perf_counter()
  step, facts = make(json.loads(sys.argv[1]))
  first = step()
  seconds = time.perf_counter() - start
  step()
  losses = {"first_loss": float(first), "warm_s": round(seconds, 1)}
  print(json.dumps(facts | losses), flush=True)
  for line in sys.stdin:
    times = []
    for _ in range(int(line)):
      start = time.perf_counter()
      step()
      times.append(time.perf_counter() - start)
    print(json.dumps(times), flush=True)


def tokens(vocab_size: int) -> Any:
  """[B, T + 1] random tokens, the same for every peer."""
  import numpy as np

  rng = np.random.default_rng(0)
  return rng.integers(0, vocab_size, (B, T + 1), dtype=np.int32)
