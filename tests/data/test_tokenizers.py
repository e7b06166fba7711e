"""Tokenizers: any text comes back, and the same text trains the same one."""

import inspect
import json.decoder
import random
import textwrap

import pytest

from ablax.data.tokenizers import TOKENIZERS
from ablax.errors import UserError
from ablax.tokenizer import HARD

PROVES = ("tokenizer:bytes", "tokenizer:bpe", "tokenizer:unigram")

CORPUS = [
  inspect.getsource(json.decoder),
  inspect.getsource(textwrap),
  "def fit(self, x):\n    if x is None:\n        return self.y\n\n" * 20,
  "The quick brown fox jumps over the lazy dog, 1234 times.\n" * 20,
  "\tindented by tabs\n\t\ttwice, 滾滾長江東逝水 é\n" * 20,
]


@pytest.fixture(scope="module", params=list(TOKENIZERS))
def tokenizer(request, tmp_path_factory):
  return train(request.param, tmp_path_factory.mktemp("tokenizer"))


def train(name, folder, texts=tuple(CORPUS), vocab_size=500, **options):
  kind = TOKENIZERS[name]
  return kind.train(
    texts, vocab_size, TOKENIZERS.options(name)(**options), folder
  )


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
  assert technique and "arXiv:" in paper


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


def test_no_text_encodes_to_a_special(tokenizer):
  specials = {tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id}
  assert len(specials) == 3
  for text in [*HARD.values(), *CORPUS]:
    ids = tokenizer.encode(text)
    assert not specials & set(ids)
    assert all(0 <= i < tokenizer.vocab_size for i in ids)


def test_specials_decode_to_nothing(tokenizer):
  ids = [tokenizer.bos_id, *tokenizer.encode("a b"), tokenizer.eos_id, 0]
  assert tokenizer.decode(ids) == "a b"


def test_half_a_character_decodes_to_the_replacement_mark(tokenizer):
  ids = tokenizer.encode("\U0001f9ff")
  assert tokenizer.decode(ids[:2]) == "\ufffd"


def test_a_lone_surrogate_is_refused(tokenizer):
  with pytest.raises(UserError, match=r"lone surrogate U\+D800 at character 1"):
    tokenizer.encode("a\ud800")


def test_an_id_outside_the_vocabulary_is_refused(tokenizer):
  for token in (-1, tokenizer.vocab_size):
    with pytest.raises(KeyError):
      tokenizer.token_bytes(token)
    with pytest.raises(KeyError):
      tokenizer.decode([token])


def test_a_saved_tokenizer_loads_as_the_same(tokenizer, tmp_path):
  tokenizer.save(tmp_path / "new")
  loaded = type(tokenizer).load(tmp_path / "new", None)
  assert loaded.fingerprint == tokenizer.fingerprint
  assert loaded.encode(CORPUS[0]) == tokenizer.encode(CORPUS[0])


@pytest.mark.parametrize("name", ["bpe", "unigram"])
def test_training_is_deterministic_silent_and_sees_its_options(
  name, tmp_path, capfd
):
  first = train(name, tmp_path / "a")
  assert capfd.readouterr() == ("", "")
  assert train(name, tmp_path / "b").fingerprint == first.fingerprint
  others = [
    train(name, tmp_path / "c", CORPUS[:2]),
    train(name, tmp_path / "d", vocab_size=499),
    train(name, tmp_path / "e", split_digits=True),
  ]
  prints = {first.fingerprint, *(other.fingerprint for other in others)}
  assert len(prints) == 4


@pytest.mark.parametrize("name", ["bpe", "unigram"])
def test_line_ends_and_indentation_are_in_pieces(name, tmp_path):
  tokenizer = train(name, tmp_path)
  pieces = [tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size)]
  assert any(b"\n" in piece and len(piece) > 1 for piece in pieces)
  assert b"    " in pieces
  text = "def fit(self, x):\n    if x is None:\n        return self.y\n"
  assert len(tokenizer.encode(text)) < len(text) / 3


@pytest.mark.parametrize("name", ["bpe", "unigram"])
def test_split_digits_makes_every_digit_a_token(name, tmp_path):
  tokenizer = train(name, tmp_path, split_digits=True)
  assert len(tokenizer.encode("1234")) >= 4
  for i in range(tokenizer.vocab_size):
    assert sum(map(tokenizer.token_bytes(i).count, (b"1", b"2"))) <= 1


@pytest.mark.parametrize("name", ["bpe", "unigram"])
def test_a_vocabulary_that_does_not_fit_the_text_is_explained(name, tmp_path):
  with pytest.raises(UserError) as caught:
    train(name, tmp_path, ["hello world"], vocab_size=4096)
  assert "data.vocab_size=4096 is more than" in str(caught.value)
  largest = int(str(caught.value).split("set it to ")[1].split()[0])
  train(name, tmp_path, ["hello world"], vocab_size=largest)
  with pytest.raises(UserError, match=r"data\.vocab_size=100 has no room"):
    train(name, tmp_path, vocab_size=100)
  with pytest.raises(UserError, match="no text to train on"):
    train(name, tmp_path, [])


def test_a_text_of_megabytes_is_encoded_in_seconds(tokenizer):
  text = "".join(CORPUS) * 50 + "a" * 500_000
  assert len(text) > 2_000_000
  assert tokenizer.decode(tokenizer.encode(text)) == text


def test_coverage_outside_its_range_is_refused():
  with pytest.raises(UserError, match=r"character_coverage=0\.0 must be in"):
    TOKENIZERS.options("bpe")(character_coverage=0.0)
