"""A small tokenizer and a small model for the tests of generation."""

import dataclasses
import string
import types
from collections.abc import Mapping

import jax
import jaxtyping
import pytest

from ablax.infer.sampling import Sampling, generate
from ablax.models.lm import init

LETTERS = string.ascii_lowercase + " é日"


@dataclasses.dataclass(frozen=True)
class Letters:
  """One id a letter, of one to three bytes."""

  pad_id: int = 0
  bos_id: int = 1
  eos_id: int = 2
  vocab_size: int = 3 + len(LETTERS)
  special_tokens: Mapping[str, int] = dataclasses.field(
    default_factory=lambda: types.MappingProxyType({}), hash=False
  )

  def encode(self, text):
    return [3 + LETTERS.index(letter) for letter in text]

  def token_bytes(self, token):
    if not 3 <= token < 3 + len(LETTERS):
      return b""
    return LETTERS[token - 3].encode()


@pytest.fixture
def unchecked():
  """Without the tests' own check of types, as users run."""
  jaxtyping.config.update("jaxtyping_disable", True)
  yield
  jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def letters():
  return Letters


@pytest.fixture(scope="session")
def model(model_config):
  # Untied: the logits of an untrained model are about N(0, 1).
  config = model_config(vocab_size=54, tie_embeddings=False)
  return config, init(config, jax.random.key(3))


@pytest.fixture(scope="session")
def run(model):
  """Generates; settings by keyword beside those of `generate`."""
  own = ("decoding", "options", "n_rows", "on_text")

  def run(prompts, tokenizer=None, **settings):
    arguments = {k: settings.pop(k) for k in own if k in settings}
    return generate(
      *model, tokenizer or Letters(), prompts, Sampling(**settings), **arguments
    )

  return run
