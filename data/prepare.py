"""Text to packed rows on disk, once: tokenizer, held-out split, ArrayRecord."""

import dataclasses
import gzip
import hashlib
import importlib
import json
import lzma
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ..errors import UserError
from . import packing
from .cache import cached, root
from .config import DataConfig
from .corpus import Corpus, Text
from .progress import Progress
from .tokenizers import TOKENIZERS, Tokenizer

FORMAT = 1  # of what is in the cache; raise it when that changes
_META = "meta.json"
_ENCODE = 1 << 20  # bytes of text that are encoded at a time


@dataclasses.dataclass(frozen=True)
class Prepared:
  """Packed rows, their tokenizer and what was measured on the way.

  folder: holds train.array_record and heldout.array_record, a row each record:
    int32 [3, T], little-endian tokens, targets and segment_ids.
  fingerprint: hash of the text, the split, the tokenizer and the packing.
  train_tokens: targets in the training rows, EOS included.
  train_bytes, heldout_bytes: UTF-8 bytes of the documents on each side.
  bytes_per_token: of the training text, specials not counted.
  fill: share of the training rows' slots that hold a token.
  gzip_bits_per_byte, xz_bits_per_byte: of the held-out documents in one
    stream, at level 9; what a model has to beat.
  """

  folder: pathlib.Path
  tokenizer: Tokenizer
  fingerprint: str
  n_train_rows: int
  n_heldout_rows: int
  train_tokens: int
  train_bytes: int
  heldout_bytes: int
  bytes_per_token: float
  fill: float
  gzip_bits_per_byte: float
  xz_bits_per_byte: float


def prepare(config: DataConfig, *, progress: bool = True) -> Prepared:
  """Returns the packed rows of a config, from the cache where they are there.

  The documents are read in any case: their hash is part of the key.

  Raises:
    UserError: the source, the tokenizer or the split cannot be had as the
      config says, or there are fewer rows than one batch.
  """
  with Progress(progress) as track:
    tokenizer = fixed_tokenizer(config)  # a wrong path is told before reading
    corpus = Corpus(config, track)
    tokenizer = tokenizer or trained_tokenizer(config, corpus)
    fingerprint = _hash(
      corpus.fingerprint,
      config.source,
      repr(corpus.options),
      tokenizer.fingerprint,
      config.seq_len,
      config.heldout_bytes,
      config.max_bytes,
    )
    folder = cached(
      root() / "packed" / fingerprint,
      lambda new: _pack(corpus, tokenizer, config.seq_len, new),
    )
  meta = json.loads((folder / _META).read_text())
  prepared = Prepared(folder, tokenizer, fingerprint, **meta)
  if prepared.n_train_rows < config.batch_size:
    raise UserError(
      f"data.batch_size={config.batch_size} is more than the"
      f" {prepared.n_train_rows} rows of data.seq_len={config.seq_len} that"
      " the training text fills; lower one of the two or add text"
    )
  return prepared


def tokenizer_folder(config: DataConfig, corpus: Corpus) -> pathlib.Path:
  """Returns where the cache has, or will have, the config's tokenizer."""
  key = _hash(
    config.tokenizer,
    # A plugin's tokenizer may change from one day to the next.
    pathlib.Path(str(TOKENIZERS.module(config.tokenizer).__file__)).read_text(
      encoding="utf-8"
    ),
    repr(_tokenizer_options(config)),
    config.vocab_size,
    config.tokenizer_bytes,
    config.heldout_bytes,
    corpus.fingerprint,
  )
  return root() / "tokenizers" / key


def fixed_tokenizer(config: DataConfig) -> Tokenizer | None:
  """Returns the config's tokenizer where it needs no text, else None."""
  kind = TOKENIZERS[config.tokenizer]
  if kind.trainable:
    return None
  return kind.train((), config.vocab_size, _tokenizer_options(config))


def trained_tokenizer(config: DataConfig, corpus: Corpus) -> Tokenizer:
  """Returns the config's tokenizer, trained on training documents only."""
  kind = TOKENIZERS[config.tokenizer]
  options = _tokenizer_options(config)
  folder = cached(
    tokenizer_folder(config, corpus),
    lambda new: kind.train(
      corpus.tokenizer_sample(), config.vocab_size, options
    ).save(new),
  )
  return kind.load(folder, options)


def _tokenizer_options(config: DataConfig) -> Any:
  name = config.tokenizer
  return config.opts.get(name, TOKENIZERS.options(name)())


def _hash(*parts: Any) -> str:
  return hashlib.sha256(json.dumps((FORMAT, *parts)).encode()).hexdigest()[:32]


def _pack(
  corpus: Corpus, tokenizer: Tokenizer, seq_len: int, folder: pathlib.Path
) -> None:
  """Writes both sides' rows and meta.json into `folder`."""
  n_train_rows, train_tokens, n_documents = _write(
    corpus.train("packing"), tokenizer, seq_len, folder / "train.array_record"
  )
  n_heldout_rows, _, _ = _write(
    corpus.heldout("packing held-out text"),
    tokenizer,
    seq_len,
    folder / "heldout.array_record",
  )
  utf8 = b"".join(text.text.encode() for text in corpus.heldout("compressing"))
  meta = {
    "n_train_rows": n_train_rows,
    "n_heldout_rows": n_heldout_rows,
    "train_tokens": train_tokens,
    "train_bytes": corpus.train_bytes,
    "heldout_bytes": corpus.heldout_bytes,
    # Each document's targets are its tokens and EOS.
    "bytes_per_token": corpus.train_bytes / (train_tokens - n_documents),
    "fill": train_tokens / (n_train_rows * seq_len),
    "gzip_bits_per_byte": 8 * len(gzip.compress(utf8, 9)) / len(utf8),
    "xz_bits_per_byte": 8 * len(lzma.compress(utf8, preset=9)) / len(utf8),
  }
  (folder / _META).write_text(json.dumps(meta, indent=2))


def _write(
  texts: Iterable[Text],
  tokenizer: Tokenizer,
  seq_len: int,
  file: pathlib.Path,
) -> tuple[int, int, int]:
  """Writes the packed texts; returns the numbers of rows, targets, texts."""
  array_record_module = importlib.import_module(
    "array_record.python.array_record_module"
  )

  n_rows = n_targets = n_texts = 0

  def encoded() -> Iterator[list[int]]:
    nonlocal n_texts
    for some in _batched(texts):
      n_texts += len(some)
      yield from tokenizer.encode_batch(some)

  rows = packing.pack(
    encoded(),
    seq_len,
    bos_id=tokenizer.bos_id,
    eos_id=tokenizer.eos_id,
    pad_id=tokenizer.pad_id,
  )
  # One record a group: rows are read in a shuffled order, each by itself.
  writer = array_record_module.ArrayRecordWriter(str(file), "group_size:1")
  try:
    for row in rows:
      record = np.stack((row.tokens, row.targets, row.segment_ids))
      writer.write(record.astype("<i4").tobytes())
      n_rows += 1
      n_targets += int(np.count_nonzero(row.segment_ids))
  finally:
    writer.close()
  return n_rows, n_targets, n_texts


def _batched(texts: Iterable[Text]) -> Iterator[list[str]]:
  """Yields lists of about `_ENCODE` bytes, which threads encode together."""
  some: list[str] = []
  size = 0
  for text in texts:
    some.append(text.text)
    size += text.size
    if size >= _ENCODE:
      yield some
      some, size = [], 0
  if some:
    yield some
