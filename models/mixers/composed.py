"""A mixer of other mixers: its state holds theirs."""

from ..config import ModelConfig
from . import Mixer, State


class Composed(Mixer):
  """One that calls others of MIXERS, each with its own part of the state."""

  @classmethod
  def parts(cls, config: ModelConfig) -> dict[str, type[Mixer]]:
    """The others, by their names in the state."""
    raise NotImplementedError(f"{cls.__name__} must define parts")

  @classmethod
  def init_state(cls, config: ModelConfig, batch: int, max_len: int) -> State:
    return {
      name: part.init_state(config, batch, max_len)
      for name, part in cls.parts(config).items()
    }

  @classmethod
  def state_numbers(cls, config: ModelConfig, max_len: int) -> int:
    return sum(
      part.state_numbers(config, max_len) for part in cls.parts(config).values()
    )
