"""Scores are lm-evaluation-harness's own, of a transformers Llama."""

import json
import string

import numpy as np
import pytest
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from test_llama import llama
from tokenizers import (
  Regex,
  Tokenizer,
  decoders,
  models,
  pre_tokenizers,
  processors,
)
from transformers import PreTrainedTokenizerFast

from ablax import harness
from ablax.errors import UserError
from ablax.infer.evals import Line
from ablax.infer.evals.multiple_choice import MultipleChoice, Options
from ablax.infer.lm_eval_model import AblaxLM
from ablax.infer.score import Scorer

PROVES = ("evaluation:multiple_choice", "evaluation:perplexity")
LETTERS = " " + string.ascii_letters
TASK = """\
task: toy
dataset_path: json
dataset_kwargs: {data_files: {test: toy.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: choices
doc_to_target: answer
metric_list:
"""


class Letters:
  """One id a letter, in our shape and in transformers'."""

  pad_id, bos_id, eos_id = 0, 1, 2
  vocab_size = 3 + len(LETTERS)

  def __init__(self):
    vocab = {"<pad>": 0, "<s>": 1, "</s>": 2}
    vocab |= {letter: 3 + i for i, letter in enumerate(LETTERS)}
    inner = Tokenizer(models.WordLevel(vocab, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    inner.decoder = decoders.Fuse()
    inner.post_processor = processors.TemplateProcessing(
      single="<s> $A", special_tokens=[("<s>", 1)]
    )
    self.theirs = PreTrainedTokenizerFast(
      tokenizer_object=inner,
      pad_token="<pad>",
      bos_token="<s>",
      eos_token="</s>",
      clean_up_tokenization_spaces=False,
    )

  def encode(self, text):
    return [3 + LETTERS.index(letter) for letter in text]

  def token_bytes(self, token):
    return LETTERS[token - 3].encode() if token > 2 else b""


@pytest.fixture(scope="module")
def both(model_config):
  """Our model in the harness, and transformers' of the same weights."""
  config = model_config(
    vocab_size=Letters.vocab_size,
    max_len=40,
    norm_eps=1e-5,
    init_scale=3.0,
    tie_embeddings=False,
    opts={"rope.rope_theta": 500.0},
  )
  params, model = llama(config)
  letters = Letters()
  ours = AblaxLM(config, params, letters, n_rows=3)
  theirs = HFLM(
    model, tokenizer=letters.theirs, batch_size=4, max_length=40, device="cpu"
  )
  return ours, theirs, Scorer(config, params, letters, n_rows=3)


def text(rng, n):
  return "".join(rng.choice([*LETTERS[1:]], n))


def requests(*arguments):
  return [
    Instance("loglikelihood", {}, one, i) for i, one in enumerate(arguments)
  ]


def test_log_likelihoods_and_greediness_are_the_harness_own(both):
  ours, theirs, _ = both
  rng = np.random.default_rng(0)
  pairs = [
    (text(rng, m), " " + text(rng, n)) for m, n in ((3, 1), (9, 4), (15, 6))
  ]
  pairs += [("", text(rng, 5)), (text(rng, 4) + "  ", text(rng, 1))]
  pairs.append((text(rng, 40), " " + text(rng, 3)))  # longer than the model
  # Greedy continuations, so that some are, unless it would be padding.
  contexts = [text(rng, n) for n in (2, 3, 5, 8)]
  short = {"until": [], "max_gen_toks": 1}
  said = ours.generate_until(requests(*((c, short) for c in contexts)))
  pairs += zip(contexts, said, strict=True)
  found = ours.loglikelihood(requests(*pairs))
  expected = theirs.loglikelihood(requests(*pairs), disable_tqdm=True)
  # Sums of up to 11 log-probabilities near -5 in fp32, after two layers.
  np.testing.assert_allclose(
    [x[0] for x in found], [x[0] for x in expected], atol=2e-4
  )
  assert [x[1] for x in found] == [x[1] for x in expected]
  assert {x[1] for x in found} == {True, False}


def test_rolling_log_likelihoods_are_the_harness_own(both, monkeypatch):
  ours, theirs, _ = both
  # It would put BOS before BOS.
  monkeypatch.setattr(theirs, "add_bos_token", False)
  rng = np.random.default_rng(1)
  texts = [(text(rng, n),) for n in (3, 40, 41, 153)]
  found = ours.loglikelihood_rolling(requests(*texts))
  expected = theirs.loglikelihood_rolling(requests(*texts), disable_tqdm=True)
  # Sums of up to 153 of them.
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_greedy_text_is_the_harness_own(both):
  ours, theirs, _ = both
  # Which ours never generates.
  theirs.model.generation_config.suppress_tokens = [0, 1]
  rng = np.random.default_rng(2)
  prompts = [text(rng, n) for n in (3, 8, 50)]
  settings = {"until": ["ab", "q"], "max_gen_toks": 9, "do_sample": False}
  found = ours.generate_until(requests(*((p, dict(settings)) for p in prompts)))
  for prompt, said in zip(prompts, found, strict=True):
    (expected,) = theirs.generate_until(
      requests((prompt, dict(settings))), disable_tqdm=True
    )
    assert said == expected and said


def test_a_task_gives_one_accuracy_in_all_three(both, tmp_path, monkeypatch):
  ours, theirs, scorer = both
  monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
  rng = np.random.default_rng(3)
  fields = [
    {
      "question": text(rng, 6),
      "choices": [text(rng, n) for n in (1, 2, 3)],
      "answer": i % 3,
    }
    for i in range(24)
  ]
  rules = ("acc", "acc_norm", "acc_bytes", "acc_mutual_info")
  lines = "".join(f"  - metric: {rule}\n" for rule in rules)
  (tmp_path / "toy.yaml").write_text(TASK + lines)
  (tmp_path / "toy.jsonl").write_text("\n".join(map(json.dumps, fields)))
  results = [
    harness.run_tasks(model, [str(tmp_path / "toy.yaml")])["toy"]
    for model in (ours, theirs)
  ]
  assert {r: results[0][r] for r in rules} == {r: results[1][r] for r in rules}
  found = MultipleChoice(Options())(
    scorer, [Line(str(i), one) for i, one in enumerate(fields)]
  )["accuracy"]
  for rule, name in zip(
    ("sum", "characters", "bytes", "pmi"), rules, strict=True
  ):
    assert found[rule]["value"] == results[0][name]
  # They do not all say the same.
  assert len({results[0][rule] for rule in rules}) > 1


def test_tasks_run_offline_where_the_packages_are_imported_already(
  tmp_path, monkeypatch
):
  import datasets
  from huggingface_hub import constants

  monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
  monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
  with pytest.raises(UserError):
    harness.run_tasks(None, [str(tmp_path / "none.yaml")])
  assert constants.is_offline_mode() and datasets.config.HF_HUB_OFFLINE


def test_the_harness_knows_the_model_by_name():
  from lm_eval.api.registry import get_model

  assert issubclass(harness.register(), AblaxLM)
  assert get_model("ablax") is harness.register()


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"num_beams": 3}, "has num_beams=3, which ablax does not know"),
    ({"max_gen_toks": 40}, "max_tokens=40 leaves no room for a prompt"),
  ],
)
def test_what_a_task_cannot_have_is_told(both, settings, message):
  with pytest.raises(UserError) as caught:
    both[0].generate_until(requests(("w1", settings)))
  assert message in str(caught.value)


def test_settings_of_a_draw_are_passed_on(both):
  sampling = both[0]._sampling(
    {"do_sample": True, "temperature": 0.7, "top_k": 5, "until": "x"}
  )
  assert (sampling.temperature, sampling.top_k) == (0.7, 5)
  assert sampling.stop == ("x",) and sampling.max_tokens == 20
  greedy = both[0]._sampling(
    {"do_sample": False, "temperature": 0.7, "top_k": 5}
  )
  assert (greedy.temperature, greedy.top_k, greedy.stop) == (0, 0, ())


def test_an_empty_continuation_and_a_task_that_is_none_are_told(both, tmp_path):
  with pytest.raises(UserError, match="with an empty text, which has no"):
    both[0].loglikelihood(requests(("w1", "")))
  (tmp_path / "x.yaml").write_text("task: [")
  with pytest.raises(UserError, match="is not a task that lm-eval can load"):
    harness.run_tasks(both[0], [str(tmp_path / "x.yaml")])
