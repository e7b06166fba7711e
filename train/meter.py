"""Speed of training, and waiting for input, between lines of the log."""

import time
from typing import Any

from .accounting import Accounts
from .config import Config
from .peak import machine_peak


class Meter:
  """Speed, and waiting for input, since the last line of the log."""

  def __init__(
    self, config: Config, accounts: Accounts, step: int, tokens: int
  ):
    self.tokens = tokens  # trained on since the beginning of the run
    self._rows = config.data.batch_size * config.data.seq_len
    self._flops = accounts.train_flops
    self._peak = machine_peak(config.model.compute_dtype)
    self.restart(step)

  def restart(self, step: int) -> None:
    self._since, self._clock = step, time.perf_counter()
    self.waited, self.stalls = 0.0, 0

  def rates(self, step: int) -> dict[str, float | int]:
    """What is logged at `step`; slots of padding count as tokens/s."""
    steps = step - self._since
    speed = steps * self._rows / (time.perf_counter() - self._clock)
    rates = {
      "tokens": self.tokens,
      "tokens_per_s": speed,
      "peak_fraction": speed * self._flops / self._peak,
      "input_wait_s": self.waited / steps,
      "input_stalls": self.stalls,
    }
    self.restart(step)
    return rates


def is_ready(array: Any) -> bool:
  """Whether the device has computed it."""
  return array.is_ready()
