"""A model in lm-evaluation-harness (Gao et al. 2024).

`AblaxLM` answers the harness's three kinds of request; `ablax/harness.py` loads
a run into it and gives it the name "ablax". Importing this file needs lm-eval.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lm_eval.api.instance import Instance  # pyright: ignore
from lm_eval.api.model import LM  # pyright: ignore

from ..errors import UserError, nearest
from ..models.config import ModelConfig
from ..models.param import Params
from .evals.exact_match import prompt_ids
from .sampling import generate
from .score import Scorer
from .settings import Sampling
from .tokenizer import Tokenizer

_MAX_TOKENS = 256  # generated, where a task does not say; the harness's own
# The harness's words for one setting, in the order in which they count.
_LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens")
_LENGTHS += ("max_completion_tokens",)
_SETTINGS = ("top_k", "top_p", "min_p", "typical_p", "repetition_penalty")


class AblaxLM(LM):
  """A model of ablax's, as the harness sees it.

  Every text begins with BOS, as in training, and a context that is too long
  loses its beginning.

  Args:
    n_rows: rows computed together; None: a number for the backend.
    seed: of a task that draws.
  """

  def __init__(
    self,
    config: ModelConfig,
    params: Params,
    tokenizer: Tokenizer,
    n_rows: int | None = None,
    seed: int = 0,
  ):
    super().__init__()
    self._scorer = Scorer(config, params, tokenizer, n_rows)
    self._seed = seed

  def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
    """Log-likelihood of continuations, and whether greedy gives them."""
    arguments: Any = [request.args for request in requests]
    pairs = [(context, continuation) for context, continuation in arguments]
    empty = [context for context, continuation in pairs if not continuation]
    if empty:
      raise UserError(
        f"the task continues {empty[0][-40:]!r} with an empty text, which has"
        " no likelihood; mend its doc_to_choice or doc_to_target"
      )
    scored = self._scorer.texts(pairs)
    found = [(score.total, score.is_greedy) for score in scored]
    self._keep("loglikelihood", requests, found)
    return found

  def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
    """Log-likelihood of whole texts, by windows of `model.max_len`."""
    scored = self._scorer.rolling([request.args[0] for request in requests])
    found = [score.total for score in scored]
    self._keep("loglikelihood_rolling", requests, found)
    return found

  def generate_until(self, requests: list[Instance]) -> list[str]:
    """Continues texts up to a stop text, greedily unless a task draws."""
    arguments: Any = [request.args for request in requests]
    groups: dict[str, list[int]] = {}
    for i, (_, settings) in enumerate(arguments):
      groups.setdefault(json.dumps(settings), []).append(i)
    found = [""] * len(requests)
    for settings, indices in groups.items():
      sampling = self._sampling(json.loads(settings))
      texts = [arguments[i][0] for i in indices]
      ids, _ = prompt_ids(self._scorer, texts, sampling.max_tokens)
      completions = generate(
        self._scorer.config,
        self._scorer.params,
        self._scorer.tokenizer,
        ids,
        sampling,
        n_rows=self._scorer.n_rows,
      )
      for i, completion in zip(indices, completions, strict=True):
        found[i] = completion.text
    self._keep("generate_until", requests, found)
    return found

  def _sampling(self, settings: Mapping[str, Any]) -> Sampling:
    """The harness's generation_kwargs as ours."""
    given = dict(settings)
    until = given.pop("until", None) or []
    stop = [until] if isinstance(until, str) else until
    lengths = [given.pop(word, None) for word in _LENGTHS]
    max_tokens = next((n for n in lengths if n is not None), None)
    if max_tokens is None:
      max_tokens = min(_MAX_TOKENS, max(1, self._scorer.config.max_len // 2))
    draws = given.pop("do_sample", None)
    temperature = float(given.pop("temperature", 1.0 if draws else 0.0))
    if draws is False:
      temperature = 0.0
    for word in given:
      if word not in _SETTINGS:
        raise UserError(
          f"generation_kwargs has {word}={given[word]!r}, which ablax does not"
          f" know{nearest(word, [*_SETTINGS, *_LENGTHS, 'until'])}"
        )
    if not temperature:
      # As transformers does: they shape a draw, and there is none.
      penalty = given.get("repetition_penalty")
      given = {"repetition_penalty": penalty} if penalty is not None else {}
    return Sampling(
      temperature=temperature,
      max_tokens=int(max_tokens),
      stop=tuple(text for text in stop if text),
      seed=self._seed,
      **given,
    )

  def _keep(
    self, kind: str, requests: Sequence[Instance], found: Sequence[Any]
  ) -> None:
    """Into the harness's cache of answers, where it has one."""
    for request, answer in zip(requests, found, strict=True):
      self.cache_hook.add_partial(kind, request.args, answer)
