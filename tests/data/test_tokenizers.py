"""Tokenizers: any text comes back, and the same text trains the same one."""

import inspect
import json.decoder
import os
import pathlib
import random
import subprocess
import sys
import textwrap

import pytest

from ablax.data.tokenizers import TOKENIZERS, Tokenizer
from ablax.data.tokenizers.measure import HARD
from ablax.errors import UserError

PROVES = (
  "tokenizer:bytes",
  "tokenizer:bpe",
  "tokenizer:unigram",
  "feature:special_tokens",
)

ROOT = pathlib.Path(__file__).resolve().parents[2]
TRAINED = [name for name in TOKENIZERS if TOKENIZERS[name].trainable]
PIECES = ["bpe", "unigram", "byte_bpe", "wordpiece"]  # learned, not counted
# The import of what `byte_bpe` saves; for others see test_imports.py.
LOSSLESS = [*TRAINED, "bytes", "tokenizer_json"]
# One begins another, and the last is there already.
SPECIAL = ("<|im_start|>", "<|im_end|>", "<|im|>", "<|im|>2", "</s>")
N_NEW = len(SPECIAL) - 1

CORPUS = [
  inspect.getsource(json.decoder),
  inspect.getsource(textwrap),
  "def fit(self, x):\n    if x is None:\n        return self.y\n\n" * 20,
  "The quick brown fox jumps over the lazy dog, 1234 times.\n" * 20,
  "\tindented by tabs\n\t\ttwice, 滾滾長江東逝水 é\n" * 20,
]


def train(name, texts=tuple(CORPUS), vocab_size=0, **options):
  kind = TOKENIZERS[name]
  # WordPiece has every byte twice: at the beginning of a word, and inside.
  vocab_size = vocab_size or (700 if name == "wordpiece" else 500)
  return kind.train(texts, vocab_size, TOKENIZERS.options(name)(**options))


def imported(folder, **options):
  train("byte_bpe").save(folder)
  return train("tokenizer_json", path=str(folder), **options)


@pytest.fixture(scope="module", params=LOSSLESS)
def name(request):
  return request.param


def make(name, folder, **options):
  if name == "tokenizer_json":
    return imported(folder, **options)
  return train(name, **options)


@pytest.fixture(scope="module")
def tokenizer(name, tmp_path_factory):
  return make(name, tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def with_special(name, tmp_path_factory):
  folder = tmp_path_factory.mktemp("tokenizer")
  return make(name, folder, special_tokens=SPECIAL)


def random_texts():
  rng = random.Random(0)
  for _ in range(200):
    yield "".join(
      chr(
        rng.choice(
          (
            rng.randrange(0xD800),
            rng.randrange(0xE000, 0x110000),
            rng.randrange(128),
            rng.choice((0x2581, 0x2585, 0x20, 0x0A, 0x09, 0)),
          )
        )
      )
      for _ in range(rng.randrange(40))
    )


@pytest.mark.parametrize("name", TOKENIZERS)
def test_each_tokenizer_names_its_paper(name):
  technique, paper = TOKENIZERS.citation(name)
  assert technique and ("arXiv:" in paper or "JMLR" in paper)


def test_each_tokenizer_has_all_that_the_protocol_names(tokenizer):
  assert isinstance(tokenizer, Tokenizer)


def test_hard_texts_come_back_exactly(tokenizer):
  assert tokenizer.loses == ""
  for name, text in HARD.items():
    assert tokenizer.decode(tokenizer.encode(text)) == text, name


def test_any_text_comes_back_exactly(tokenizer):
  texts = [*random_texts(), "", *CORPUS]
  for text, ids in zip(texts, tokenizer.encode_batch(texts), strict=True):
    assert tokenizer.decode(ids) == text
    assert ids == tokenizer.encode(text)


def test_token_bytes_join_to_the_text(tokenizer):
  for text in [*HARD.values(), *CORPUS]:
    joined = b"".join(map(tokenizer.token_bytes, tokenizer.encode(text)))
    assert joined == text.encode()


def test_no_text_encodes_to_a_special(with_special):
  specials = with_special.special_tokens
  texts = [*HARD.values(), *CORPUS, *specials, "".join(specials), "<|im_|im|>"]
  for text, ids in zip(texts, with_special.encode_batch(texts), strict=True):
    assert not set(specials.values()) & set(ids)
    assert all(0 <= i < with_special.vocab_size for i in ids)
    assert with_special.decode(ids) == text


def test_names_become_control_tokens_where_they_are_allowed(with_special):
  encode, ids = with_special.encode, with_special.special_tokens
  text = "<|im_start|>user\nhi <|im|>2 é<|im|><|im_end|></s><|im_start|>"
  assert encode(text, allow_special=True) == [
    ids["<|im_start|>"],
    *encode("user\nhi "),
    ids["<|im|>2"],
    *encode(" é"),
    ids["<|im|>"],
    ids["<|im_end|>"],
    with_special.eos_id,
    ids["<|im_start|>"],
  ]
  for plain in ["", "a < b|>", *CORPUS]:
    assert encode(plain, allow_special=True) == encode(plain)


def test_special_tokens_get_the_last_ids_and_change_no_other(
  name, tokenizer, with_special
):
  specials = with_special.special_tokens
  for special in (tokenizer, with_special):
    ends = {special.pad_id, special.bos_id, special.eos_id}
    assert len(ends) == 3 and ends <= set(special.special_tokens.values())
  last = range(with_special.vocab_size - N_NEW, with_special.vocab_size)
  assert [specials[new] for new in SPECIAL[:-1]] == list(last)
  assert specials["</s>"] == with_special.eos_id
  assert tokenizer.fingerprint != with_special.fingerprint
  if tokenizer.trainable and name != "characters":
    assert with_special.vocab_size == tokenizer.vocab_size
  else:
    assert with_special.vocab_size == tokenizer.vocab_size + N_NEW


def test_specials_decode_to_nothing(with_special):
  ids = with_special.encode("a b")
  around = list(with_special.special_tokens.values())
  assert with_special.decode([*around, *ids, *around]) == "a b"
  assert all(with_special.token_bytes(i) == b"" for i in around)


def test_half_a_character_decodes_to_the_replacement_mark(tokenizer):
  ids = tokenizer.encode("\U0001f9ff")
  assert tokenizer.decode(ids[:2]) == "\ufffd"


def test_a_lone_surrogate_is_refused(tokenizer):
  refused = r"lone surrogate U\+D800 at character 1"
  for encode in (
    tokenizer.encode,
    lambda text: tokenizer.encode(text, allow_special=True),
    lambda text: tokenizer.encode_batch(["b", text]),
  ):
    with pytest.raises(UserError, match=refused):
      encode("a\ud800")


def test_an_id_outside_the_vocabulary_is_refused(tokenizer):
  for token in (-1, tokenizer.vocab_size):
    with pytest.raises(KeyError):
      tokenizer.token_bytes(token)
    with pytest.raises(KeyError):
      tokenizer.decode([token])


def test_a_saved_tokenizer_loads_as_the_same(tokenizer, with_special, tmp_path):
  for i, saved in enumerate([tokenizer, with_special]):
    saved.save(tmp_path / str(i))
    loaded = type(saved).load(tmp_path / str(i), None)
    assert loaded.encode(CORPUS[0]) == saved.encode(CORPUS[0])
    for name in ("fingerprint", "vocab_size", "special_tokens", "pad_id"):
      assert getattr(loaded, name) == getattr(saved, name)


@pytest.mark.parametrize("name", TRAINED)
def test_training_is_silent_and_sees_text_and_options(name, capfd):
  first = train(name)
  assert capfd.readouterr() == ("", "")
  others = [train(name, CORPUS[:2])]
  if name in PIECES:
    others.append(train(name, split_digits=True))
  else:
    others.append(train(name, min_count=21))
  if name != "characters":  # the text has fewer than are asked for
    others.append(train(name, vocab_size=first.vocab_size - 1))
  prints = {first.fingerprint, *(other.fingerprint for other in others)}
  assert len(prints) == 1 + len(others)


def fingerprints():
  return [train(name).fingerprint for name in TRAINED]


def test_another_process_with_other_threads_trains_the_same():
  here = pathlib.Path(__file__)
  done = subprocess.run(
    [
      sys.executable,
      "-c",
      f"import {here.stem} as t; print(*t.fingerprints())",
    ],
    env=os.environ
    | {
      "PYTHONPATH": f"{ROOT}{os.pathsep}{here.parent}",
      "RAYON_NUM_THREADS": "1",
      "TOKENIZERS_PARALLELISM": "false",
      "PYTHONHASHSEED": "1",
    },
    capture_output=True,
    text=True,
    check=True,
  )
  assert done.stdout.split() == fingerprints() == fingerprints()


@pytest.mark.parametrize("name", ["bpe", "unigram"])
def test_line_ends_and_indentation_are_in_pieces(name):
  tokenizer = train(name)
  pieces = [tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size)]
  assert any(b"\n" in piece and len(piece) > 1 for piece in pieces)
  assert b"    " in pieces
  text = "def fit(self, x):\n    if x is None:\n        return self.y\n"
  assert len(tokenizer.encode(text)) < len(text) / 3


@pytest.mark.parametrize("name", PIECES)
def test_split_digits_makes_every_digit_a_token(name):
  tokenizer = train(name, split_digits=True)
  assert len(tokenizer.encode("1234")) >= 4
  for i in range(tokenizer.vocab_size):
    assert sum(map(tokenizer.token_bytes(i).count, (b"1", b"2"))) <= 1


@pytest.mark.parametrize("name", PIECES)
def test_a_vocabulary_that_does_not_fit_the_text_is_explained(name):
  special = {"special_tokens": ("<|a|>", "<|b|>")}
  hello = ["hello hello world"]
  with pytest.raises(UserError) as caught:
    train(name, hello, 4096, **special)
  assert "data.vocab_size=4096 is more than" in str(caught.value)
  largest = int(str(caught.value).split("set it to ")[1].split()[0])
  assert train(name, hello, largest, **special).vocab_size == largest
  with pytest.raises(UserError, match=r"data\.vocab_size=100 has no room") as e:
    train(name, vocab_size=100, **special)
  least = int(str(e.value).split("set it to ")[1].split()[0])
  assert train(name, vocab_size=least, **special).vocab_size == least
  for nothing in ([], [""]):
    with pytest.raises(UserError, match="no text to train on"):
      train(name, nothing)


@pytest.mark.parametrize("name", ["characters", "words"])
def test_a_vocabulary_by_count_is_at_most_what_is_asked_for(name):
  assert train(name, ["hellö"], 4096).vocab_size == 260
  assert train(name, ["hellö"], 259).vocab_size == 259
  with pytest.raises(UserError, match="=258 has no room"):
    train(name, ["hellö"], 258)
  with pytest.raises(UserError, match="no text to train on"):
    train(name, [])


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"special_tokens": ("a", "b", "a")}, "special_tokens holds 'a' twice"),
    ({"special_tokens": ("",)}, "holds an empty name"),
    ({"special_tokens": ("\ud800",)}, r"lone surrogate U\+D800"),
  ],
)
@pytest.mark.parametrize("name", TOKENIZERS)
def test_impossible_special_tokens_are_refused(name, options, message):
  with pytest.raises(UserError, match=message):
    TOKENIZERS.options(name)(**options)


def test_a_text_of_megabytes_is_encoded_in_seconds(tokenizer):
  text = "".join(CORPUS) * 50 + "a" * 500_000
  assert len(text) > 2_000_000
  assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize(
  ("name", "options", "message"),
  [
    ("bpe", {"character_coverage": 0.0}, r"character_coverage=0\.0 must be in"),
    ("words", {"min_count": 0}, "min_count=0 must be at least 1"),
    ("byte_bpe", {"pattern": ""}, "pattern is empty; choose one of gpt2, gpt4"),
    ("byte_bpe", {"pattern": "("}, "nor a regular expression: "),
  ],
)
def test_an_option_outside_its_range_is_refused(name, options, message):
  with pytest.raises(UserError, match=message):
    TOKENIZERS.options(name)(**options)
