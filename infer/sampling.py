"""Text from a model, in one call.

completions = generate(config, params, tokenizer, ["def "], Sampling())
completions[0].text
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..errors import UserError
from ..models.config import ModelConfig
from ..models.lm import apply
from ..models.param import Params
from ..parallel import rules
from .decoding import DECODERS
from .filters import refuse_draw_settings
from .session import Session, encode
from .settings import Sampling
from .text import Completion
from .tokenizer import Tokenizer


def generate(
  config: ModelConfig,
  params: Params,
  tokenizer: Tokenizer,
  prompts: Sequence[str | Sequence[int]],
  sampling: Sampling,
  on_text: Callable[[int, str], None] | None = None,
  *,
  decoding: str = "sample",
  options: Any = None,
  n_rows: int | None = None,
) -> list[Completion]:
  """Continues each prompt: `sampling.n` completions of the first, and so on.

  A completion depends on the prompt, the settings and its number among the n,
  and not on the other prompts, their number or their order, unless a mixer is
  `batch_dependent`: for one `n_rows` the same bits, which tests hold a CPU to.
  The work lies on the devices of `params`.

  Args:
    prompts: texts, which BOS is put before, or ids, which are taken as they
      are (of a chat, for instance).
    on_text: called with the completion's index and each new piece of its text:
      whole characters, and nothing of a stop text. A decoding that searches
      calls it once for each completion, at its end.
    decoding: a word of `DECODERS`.
    options: its `Options`; None: the defaults.
    n_rows: rows that are computed together, by default 4 on a CPU and 32
      elsewhere. More are faster where there are many prompts, fewer where
      there is one.

  Raises:
    UserError: a prompt that fills model.max_len, a mixer that can't decode,
      settings that exclude each other, a constraint that no token fits.
  """
  if isinstance(prompts, str):
    raise UserError(
      f"prompts={prompts[:20]!r} must be a list of prompts; use"
      f" [{prompts[:20]!r}]"
    )
  entry = DECODERS[decoding]
  refuse_draw_settings(sampling, decoding, entry.draws)
  kind = DECODERS.options(decoding)
  if options is not None and not isinstance(options, kind):
    raise UserError(
      f"options={options} are not those of decoding={decoding}; use"
      f" {kind.__module__}.{kind.__name__}"
    )
  if n_rows is not None and n_rows < 1:
    raise UserError(f"n_rows={n_rows} must be at least 1")
  decoder = entry(kind() if options is None else options, sampling)
  ids = [encode(config, tokenizer, prompt) for prompt in prompts]
  found: list[list[Completion]] = [[] for _ in ids]
  # No layout: the compiled steps are kept between calls, whatever their meshes,
  # and XLA takes placement from the parameters.
  with rules.use(None):
    session = Session(
      config, params, tokenizer, sampling, entry.draws, n_rows, on_text
    )
    for block in session.blocks(ids):
      for i, completions in zip(
        block.indices, decoder.decode(block), strict=True
      ):
        found[i] = completions
        if on_text and not entry.streams:
          for j, completion in enumerate(completions):
            on_text(i * sampling.n + j, completion.text)
  return [completion for some in found for completion in some]


@functools.partial(jax.jit, static_argnums=0)
def score(
  config: ModelConfig,
  params: Params,
  tokens_BT: Int[Array, "B T"],
  positions_BT: Int[Array, "B T"] | None = None,
  segment_ids_BT: Int[Array, "B T"] | None = None,
) -> Float[Array, "B T-1"]:
  """Log-probabilities, in nats, of all tokens but the first.

  By the forward pass of training: what `Completion.logprobs` must equal.
  """
  output = apply(config, params, tokens_BT, positions_BT, segment_ids_BT)
  logprobs_BTV = jax.nn.log_softmax(output.logits()[:, :-1])
  targets_BT = tokens_BT[:, 1:, None]
  return jnp.take_along_axis(logprobs_BTV, targets_BT, -1)[..., 0]
