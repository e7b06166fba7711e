"""Imported tokenizers: ids are the library's, and mistakes are explained."""

import io
import json
import random
import shutil

import pytest
import sentencepiece
import tokenizers

from ablax.data.tokenizers import TOKENIZERS
from ablax.data.tokenizers.measure import HARD
from ablax.data.tokenizers.sentencepiece_model import SentencePieceModel
from ablax.data.tokenizers.udhr import ARTICLE_1
from ablax.errors import UserError

PROVES = ("tokenizer:sentencepiece",)

CORPUS = [*ARTICLE_1.values(), *HARD.values(), "def f(self, x): return x\n"]
CHAT = ("<|im_start|>", "<|im_end|>")
# As Llama's, T5's, XLNet's and ours are made.
MODELS = {
  "llama": {
    "model_type": "bpe",
    "byte_fallback": True,
    "normalization_rule_name": "identity",
    "remove_extra_whitespaces": False,
    "split_digits": True,
  },
  "t5": {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1},
  "symbols": {
    "control_symbols": "<|im_start|>,<mask>",
    "user_defined_symbols": "<|im_end|>,<br>",
  },
  "gemma": {
    "model_type": "bpe",
    "byte_fallback": True,
    "pad_id": 3,
    "add_dummy_prefix": False,
    "normalization_rule_name": "identity",
    "remove_extra_whitespaces": False,
  },
}


def model(**options):
  written = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(CORPUS * 3),
    model_writer=written,
    vocab_size=620,
    hard_vocab_limit=False,
    minloglevel=2,
    **options,
  )
  return written.getvalue()


def imported(kind, path, **options):
  options = TOKENIZERS.options(kind)(path=str(path), **options)
  return TOKENIZERS[kind].train((), 0, options)


@pytest.fixture(scope="module", params=MODELS)
def file(request, tmp_path_factory):
  folder = tmp_path_factory.mktemp(request.param)
  file = folder / f"{request.param}.model"
  file.write_bytes(model(**MODELS[request.param]))
  return file


@pytest.fixture(scope="module")
def pair(file):
  processor = sentencepiece.SentencePieceProcessor(model_file=str(file))
  return processor, imported("sentencepiece", file)


def texts():
  rng = random.Random(3)
  letters = [chr(i) for i in range(0x3000) if not 0xD800 <= i < 0xE000]
  strange = ["".join(rng.choices(letters, k=25)) for _ in range(100)]
  spaces = ["", " ", "  ", " a", "  a  b ", "a ", "\n a\n", "x\u2581y", "<br>a"]
  return [*HARD.values(), *ARTICLE_1.values(), *strange, *spaces, *CHAT]


def test_ids_and_texts_are_those_of_sentencepiece(pair):
  processor, ours = pair
  batch = texts()
  for text, ids in zip(batch, ours.encode_batch(batch), strict=True):
    assert ids == processor.encode(text) == ours.encode(text)
    assert ours.decode(ids) == processor.decode(ids), text


def test_what_is_said_to_be_lost_is_lost(file, pair):
  _, ours = pair
  changed = {t for t in texts() if ours.decode(ours.encode(t)) != t}
  assert "\u2581" in ours.loses and any("\u2581" in t for t in changed)
  keeps = file.stem in ("llama", "gemma")
  assert keeps == all("\u2581" in t for t in changed)
  for what in ("normaliser", "spaces at the ends", "without a piece"):
    assert (what in ours.loses) != keeps


def test_ends_are_the_models_own_or_the_end_of_text(file, pair):
  processor, ours = pair
  eos = processor.eos_id()
  pad, bos = processor.pad_id(), processor.bos_id()
  assert ours.vocab_size == processor.get_piece_size()
  assert ours.eos_id == eos >= 0
  assert ours.pad_id == (pad if pad >= 0 else eos)
  assert ours.bos_id == (bos if bos >= 0 else eos)


def test_control_tokens_are_found_where_they_are_allowed(file, pair):
  _, ours = pair
  more = imported("sentencepiece", file, special_tokens=CHAT)
  ids = more.special_tokens
  assert all(ours.special_tokens[n] == ids[n] for n in ours.special_tokens)
  new = [n for n in CHAT if ids[n] >= ours.vocab_size]
  assert len(new) == {"symbols": 0}.get(file.stem, 2)  # it has both
  assert more.vocab_size == ours.vocab_size + len(new)
  text = "<|im_start|>a b<|im_end|>"
  start, *plain, end = more.encode(text, allow_special=True)
  assert (start, end) == tuple(ids[n] for n in CHAT)
  assert plain == ours.encode("a b")
  for text in [*texts(), "".join(ids), " ".join(ids)]:
    assert not set(ids.values()) & set(more.encode(text)), text
  assert more.decode([start, *plain, end]) == "a b"


def test_a_saved_import_loads_without_its_file(file, pair, tmp_path):
  more = imported(
    "sentencepiece", file, special_tokens=CHAT, pad="<|im_start|>"
  )
  assert more.pad_id == more.special_tokens["<|im_start|>"]
  for ours in (pair[1], more):
    ours.save(tmp_path)
    loaded = SentencePieceModel.load(tmp_path, None)
    for name in ("fingerprint", "vocab_size", "special_tokens", "pad_id"):
      assert getattr(loaded, name) == getattr(ours, name)
    shutil.rmtree(tmp_path)
  assert pair[1].fingerprint != more.fingerprint


def test_a_config_beside_the_model_names_the_ends(file, tmp_path):
  shutil.copy(file, tmp_path / "tokenizer.model")
  said = {"pad_token": {"content": "<|pad|>"}, "eos_token": "</s>"}
  (tmp_path / "tokenizer_config.json").write_text(json.dumps(said))
  ours = imported("sentencepiece", tmp_path)
  assert ours.pad_id == ours.special_tokens["<|pad|>"] == ours.vocab_size - 1
  assert ours.decode([ours.pad_id, *ours.encode("a")]) == "a"


def test_of_two_files_beside_it_the_config_counts(file, tmp_path):
  shutil.copy(file, tmp_path / "tokenizer.model")
  for name, pad in (
    ("special_tokens_map.json", "<|b|>"),
    ("tokenizer_config.json", "<|a|>"),
  ):
    (tmp_path / name).write_text(json.dumps({"pad_token": pad}))
  ours = imported("sentencepiece", tmp_path)
  assert "<|a|>" in ours.special_tokens and "<|b|>" not in ours.special_tokens


def test_a_suffix_for_spaces_is_refused_by_name(tmp_path):
  (tmp_path / "a.model").write_bytes(model(treat_whitespace_as_suffix=True))
  with pytest.raises(NotImplementedError, match="treat_whitespace_as_suffix"):
    imported("sentencepiece", tmp_path / "a.model")


@pytest.fixture
def folder(tmp_path):
  """A tokenizer.json of two letters, with no token that ends a text."""
  library = tokenizers.Tokenizer(tokenizers.models.BPE({"a": 0, "b": 1}, []))
  library.add_special_tokens(["<|end|>"])
  library.decoder = tokenizers.decoders.ByteLevel()
  library.save(str(tmp_path / "tokenizer.json"))
  return tmp_path


def refused(kind, path, **options):
  with pytest.raises(UserError) as caught:
    imported(kind, path, **options)
  assert "\n" not in str(caught.value)
  return str(caught.value)


@pytest.mark.parametrize("kind", ["tokenizer_json", "sentencepiece"])
def test_a_path_without_a_tokenizer_is_explained(kind, tmp_path):
  key = f"data.opts.{kind}.path"
  assert f"{key} is empty; name a " in refused(kind, "")
  assert f"{key}='/nowhere/x' is neither" in refused(kind, "/nowhere/x")
  said = refused(kind, tmp_path)
  assert said.endswith("it holds nothing; name the file") and "with no " in said
  (tmp_path / "notes.txt").write_text("hello")
  assert "it holds notes.txt" in refused(kind, tmp_path)
  said = refused(kind, tmp_path / "notes.txt")
  assert "notes.txt is not a " in said


def test_several_models_in_a_folder_are_named(tmp_path):
  for name in ("a.model", "b.model"):
    (tmp_path / name).write_bytes(b"")
  said = refused("sentencepiece", tmp_path)
  assert "several *.model" in said and "a.model, b.model" in said


def test_a_file_beside_the_tokenizer_is_told_from_it(folder):
  (folder / "tokenizer_config.json").write_text("{}")
  said = refused("tokenizer_json", folder / "tokenizer_config.json")
  assert "name tokenizer.json beside it" in said
  (folder / "tokenizer_config.json").write_text("{")
  assert "tokenizer_config.json is not JSON" in refused(
    "tokenizer_json", folder
  )
  (folder / "tokenizer_config.json").write_text("[1]")
  assert "tokenizer_config.json is a JSON list, not an object" in refused(
    "tokenizer_json", folder
  )


@pytest.mark.parametrize("said", [5, {"content": 5}, ["<|end|>"]])
def test_an_end_that_is_no_text_is_told_with_its_file(folder, said):
  for file in ("tokenizer_config.json", "special_tokens_map.json"):
    (folder / file).write_text(json.dumps({"eos_token": said}))
    assert f"{file}: eos_token=" in refused("tokenizer_json", folder)
    (folder / file).unlink()


def test_a_byte_order_mark_is_no_part_of_a_tokenizer_json(folder):
  plain = imported("tokenizer_json", folder, eos="<|end|>")
  file = folder / "tokenizer.json"
  file.write_text("\ufeff\n" + file.read_text(), encoding="utf-8")
  marked = imported("tokenizer_json", folder, eos="<|end|>")
  assert marked.encode("ab") == plain.encode("ab")


def test_an_end_that_nothing_names_is_asked_for(folder):
  said = refused("tokenizer_json", folder)
  assert "does not say which token ends a text" in said
  assert "data.opts.tokenizer_json.eos" in said and "<|end|>" in said
  ours = imported("tokenizer_json", folder, eos="<|end|>")
  assert {ours.pad_id, ours.bos_id, ours.eos_id} == {2}
  assert ours.vocab_size == 3


def test_an_end_that_is_not_there_is_refused_with_the_nearest(folder):
  said = refused("tokenizer_json", folder, eos="<|edn|>")
  assert "eos='<|edn|>' is not a token of" in said
  assert "did you mean '<|end|>'?" in said
  assert "data.opts.tokenizer_json.special_tokens" in said
  ours = imported(
    "tokenizer_json", folder, eos="<|edn|>", special_tokens=("<|edn|>",)
  )
  assert ours.eos_id == 3


def test_a_decoder_without_bytes_is_refused_by_name(folder):
  file = folder / "tokenizer.json"
  state = json.loads(file.read_text())
  state["decoder"] = {"type": "BPEDecoder", "suffix": "</w>"}
  file.write_text(json.dumps(state))
  with pytest.raises(NotImplementedError, match="BPEDecoder"):
    imported("tokenizer_json", folder, eos="<|end|>")


@pytest.mark.parametrize(
  ("decoder", "added", "spelled"),
  [
    # GPT-2 writes the byte E9 as é.
    ({"type": "ByteLevel"}, "éx", "éx"),
    # Gemma has runs of spaces, as SentencePiece writes them.
    (
      {
        "type": "Replace",
        "pattern": {"String": "\u2581"},
        "content": " ",
      },
      "\u2581\u2581",
      "  ",
    ),
  ],
)
def test_a_token_added_to_the_text_is_spelled_as_it_is_meant(
  folder, decoder, added, spelled
):
  library = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
  library.add_tokens([tokenizers.AddedToken(added, normalized=False)])
  state = json.loads(library.to_str())
  rules = {"add_prefix_space": True, "trim_offsets": True, "use_regex": True}
  state["decoder"] = decoder | (rules if decoder["type"] == "ByteLevel" else {})
  (folder / "tokenizer.json").write_text(json.dumps(state))
  ours = imported("tokenizer_json", folder, eos="<|end|>")
  assert ours.decode(ours.encode(f"a{added}b")) == f"a{spelled}b"


def test_ids_that_stand_for_nothing_decode_to_nothing(folder):
  file = folder / "tokenizer.json"
  state = json.loads(file.read_text())
  state["model"]["vocab"] = {"a": 0, "b": 5}
  state["added_tokens"] = []
  file.write_text(json.dumps(state))
  ours = imported("tokenizer_json", folder, eos="b")
  assert ours.vocab_size == 6 and ours.eos_id == 5
  assert ours.decode([0, 3, 5, 0]) == "aa"
  with pytest.raises(KeyError):
    ours.token_bytes(6)
