"""`ablax tokenizer`, and what runs do with an imported tokenizer."""

import json

import corpora
import pytest

from ablax.configs import base
from ablax.data import prepare as prepare_module
from ablax.data.prepare import prepare
from ablax.data.sources.text import Options
from ablax.data.tokenizers import TOKENIZERS
from ablax.errors import UserError
from ablax.registry import Opts
from ablax.tokenizer import main
from ablax.train.config import from_dict, resolve
from ablax.train.workdir import keep_tokenizer


@pytest.fixture(autouse=True)
def text(tmp_path, monkeypatch):
  monkeypatch.setenv("ABLAX_CACHE", str(tmp_path / "cache"))
  monkeypatch.setenv("COLUMNS", "200")
  corpora.write(tmp_path / "text")
  return str(tmp_path / "text")


def run(capsys, text, *argv):
  small = ["--heldout-bytes=500", "--vocab-size=300", f"--source={text}"]
  assert main([*small, *argv]) == 0
  return capsys.readouterr().out


def test_kinds_are_trained_measured_and_saved(text, capsys, tmp_path):
  out = run(
    capsys,
    text,
    "--kind=bytes,byte_bpe",
    "--special-token=<|im_end|>",
    f"--out={tmp_path / 'out'}",
  )
  rows = {
    line.split()[0]: line.split() for line in out.splitlines() if line.strip()
  }
  assert rows["bytes"][1:4] == ["260", "-", "1.000"]
  assert rows["byte_bpe"][1] == "300" and float(rows["byte_bpe"][3]) > 1
  assert rows["byte_bpe"][5:] == ["exact", "exact"]
  assert rows["english"][1] == "5.67"
  for kind in ("bytes", "byte_bpe"):
    saved = TOKENIZERS[kind].load(tmp_path / "out" / kind, None)
    assert saved.special_tokens["<|im_end|>"] == saved.vocab_size - 1
  # What is saved can be measured; what is in the cache is not trained again.
  out = run(
    capsys,
    text,
    "--kind=byte_bpe",
    f"--file={tmp_path / 'out/byte_bpe'}",
    "--special-token=<|im_end|>",
    "--json",
  )
  trained, imported = json.loads(out)
  assert trained["name"] == "byte_bpe" and trained["train_seconds"] is None
  assert imported["name"] == "out-byte_bpe"
  for key in ("vocab_size", "special_tokens", "loses"):
    assert trained[key] == imported[key]
  speeds = [
    row["measured"].pop("bytes_per_second") for row in (trained, imported)
  ]
  assert min(speeds) > 0
  assert trained["measured"] == imported["measured"]


def test_files_alone_are_measured_alone(text, capsys, tmp_path):
  run(capsys, text, "--kind=bpe", f"--out={tmp_path}")
  file = tmp_path / "sentencepiece.model"
  (row,) = json.loads(run(capsys, text, f"--file={file}", "--json"))
  assert row["vocab_size"] == 300
  assert row["loses"] == "\u2581, which comes back as a space"
  assert row["measured"]["hard_changed"] == ["sentencepiece's marks"]
  # A folder without a tokenizer.json is one with a model.
  (same,) = json.loads(run(capsys, text, f"--file={tmp_path}", "--json"))
  assert same["fingerprint"] == row["fingerprint"]


def test_a_run_keeps_an_imported_tokenizer_beside_it(text, tmp_path):
  made = TOKENIZERS["byte_bpe"].train(
    ["low lower lowest " * 9], 262, TOKENIZERS.options("byte_bpe")()
  )
  made.save(tmp_path / "file")
  config = resolve(
    base.get_config(),
    {
      "data.source": "text",
      "data.opts.text.paths": text,
      "data.tokenizer": "tokenizer_json",
      "data.opts.tokenizer_json.path": str(tmp_path / "file"),
      "data.opts.tokenizer_json.special_tokens": "<|im_start|>,<|im_end|>",
      "data.heldout_bytes": "500",
    },
  )
  prepared = prepare(config.data, progress=False)
  assert prepared.tokenizer.vocab_size == 264
  (tmp_path / "run").mkdir()
  keep_tokenizer(tmp_path / "run", prepared.tokenizer)
  (tmp_path / "file" / "tokenizer.json").unlink()
  again = from_dict(json.loads(json.dumps(config.as_dict())))
  name = again.data.tokenizer
  loaded = TOKENIZERS[name].load(
    tmp_path / "run" / "tokenizer", again.data.opts[name]
  )
  assert loaded.fingerprint == prepared.tokenizer.fingerprint
  assert loaded.special_tokens["<|im_end|>"] == 263


def test_another_file_at_the_same_path_packs_anew(text, tmp_path):
  options = TOKENIZERS.options("tokenizer_json")(path=str(tmp_path / "file"))
  prints = set()
  for word in ("low ", "lower "):
    TOKENIZERS["byte_bpe"].train(
      [word * 9], 261, TOKENIZERS.options("byte_bpe")()
    ).save(tmp_path / "file")
    opts = Opts({"text": Options((text,)), "tokenizer_json": options})
    config = corpora.config(
      text, tokenizer="tokenizer_json", batch_size=1, opts=opts
    )
    prints.add(prepare(config, progress=False).fingerprint)
  assert len(prints) == 2


def test_a_missing_file_is_told_before_the_text_is_read(text, monkeypatch):
  monkeypatch.setattr(prepare_module, "Corpus", None)
  with pytest.raises(UserError, match=r"tokenizer_json\.path is empty"):
    prepare(corpora.config(text, tokenizer="tokenizer_json"))


def error(*argv):
  with pytest.raises(UserError) as caught:
    main(["--heldout-bytes=500", "--vocab-size=300", *argv])
  assert "\n" not in str(caught.value)
  return str(caught.value)


def n_texts(capsys, *argv):
  small = ["--heldout-bytes=300", "--kind=bytes", "--json"]
  assert main([*small, *argv]) == 0
  (row,) = json.loads(capsys.readouterr().out)
  return row["measured"]["n_texts"]


def test_documents_count_for_text_in_either_spelling(tmp_path, capsys):
  lines = "".join(f"line {i} of a file\n" for i in range(200))
  (tmp_path / "a.txt").write_text(lines)
  for source in (f"text:{tmp_path}/a.txt", f"{tmp_path}/a.txt"):
    assert "gives 1 document" in error("--kind=bytes", "--source", source)
    n = n_texts(capsys, "--documents=line", "--source", source)
    assert 10 < n < 100
  assert "--documents=line is of text files, and --source names stdlib" in (
    error("--documents=line", "--source=stdlib")
  )


def test_files_and_other_sources_are_read_together(text, capsys):
  alone = [n_texts(capsys, "--source", name) for name in ("stdlib", text)]
  assert n_texts(capsys, "--source", "stdlib", text) == sum(alone)


@pytest.mark.parametrize(
  ("argv", "message"),
  [
    (["--source=tdfs:x"], "--source=tdfs:x is neither a file here nor"),
    (["--source=tdfs:x"], "did you mean 'tfds'?"),
    (["--source=./no.txt"], "--source=./no.txt is neither a file here"),
    (["--heldout-bytes=0"], "--heldout-bytes=0 must be at least 1"),
    (["--documents=lines"], "--documents='lines' is not one of"),
    (["--special-token=a", "--special-token=a"], "--special-token holds 'a'"),
    (["--vocab-size=100"], "--vocab-size=100 has no room"),
  ],
)
def test_errors_name_the_flag(text, argv, message):
  assert message in error(f"--source={text}", *argv)


def test_what_one_kind_lacks_does_not_lose_the_others(text, capsys):
  argv = [f"--source={text}", "--kind=bytes,words,byte_bpe,bpe"]
  said = error(*argv, "--vocab-size=270", "--json")
  names = [row["name"] for row in json.loads(capsys.readouterr().out)]
  assert names == ["bytes", "words", "byte_bpe"]
  assert said.startswith("bpe: --vocab-size=270 has no room")
  said = error(*argv, "--vocab-size=270")
  assert "byte_bpe" in capsys.readouterr().out


@pytest.mark.parametrize("before", ["\n", "\ufeff", "\ufeff \r\n"])
def test_json_is_known_behind_a_mark_and_spaces(text, capsys, tmp_path, before):
  run(capsys, text, "--kind=byte_bpe", f"--out={tmp_path / 'made'}")
  file = tmp_path / "made" / "tokenizer.json"
  file.write_text(before + file.read_text(encoding="utf-8"), encoding="utf-8")
  (row,) = json.loads(run(capsys, text, f"--file={file}", "--json"))
  assert row["vocab_size"] == 300
