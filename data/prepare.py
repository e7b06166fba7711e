"""Text to packed rows on disk, once: tokenizer, held-out split, ArrayRecord."""

import dataclasses
import functools
import gzip
import hashlib
import importlib
import itertools
import json
import lzma
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ..errors import UserError
from . import packing, work
from .cache import cached, root
from .config import DataConfig
from .corpus import Corpus
from .mixture import shares
from .progress import Progress
from .tasks import stream
from .tasks.symbols import Symbols
from .texts import Text, batched
from .tokenizers import TOKENIZERS, Tokenizer

FORMAT = 2  # of what is in the cache; raise it when that changes
_META = "meta.json"


@dataclasses.dataclass(frozen=True)
class Packed:
  """The packed rows of one source.

  Attributes:
    name: of the source, as the config has it.
    share: of the rows in training that come from it.
    epochs: how often its rows may be seen at most; 0: any number of times.
    folder: holds train.array_record and heldout.array_record, a row each
      record: int32 [3, T], little-endian tokens, targets and segment_ids.
    train_tokens: targets in the training rows, EOS included.
    train_bytes, heldout_bytes: UTF-8 bytes of the documents on each side.
    gzip_bytes, xz_bytes: of the held-out documents in one stream, at level 9.
  """

  name: str
  share: float
  epochs: float
  folder: pathlib.Path
  n_train_rows: int
  n_heldout_rows: int
  train_tokens: int
  train_documents: int
  train_bytes: int
  heldout_bytes: int
  gzip_bytes: int
  xz_bytes: int


@dataclasses.dataclass(frozen=True)
class Prepared:
  """All of a config's packed rows, and their tokenizer.

  Attributes:
    parts: the sources, in the order of the config.
    fingerprint: hash of the texts, the split, the tokenizer, the packing and
      the shares.
    seq_len: T of the rows.
  """

  parts: tuple[Packed, ...]
  tokenizer: Tokenizer
  fingerprint: str
  seq_len: int

  def total(self, what: str) -> int:
    """Returns the sum over the sources of one of their numbers."""
    return sum(getattr(part, what) for part in self.parts)

  @property
  def n_train_rows(self) -> int:
    return self.total("n_train_rows")

  @property
  def heldout_bytes(self) -> int:
    return self.total("heldout_bytes")

  @property
  def bytes_per_token(self) -> float:
    """Of the training text, specials not counted."""
    # Each document's targets are its tokens and EOS.
    tokens = self.total("train_tokens") - self.total("train_documents")
    return self.total("train_bytes") / tokens

  @property
  def fill(self) -> float:
    """The share of the training rows' slots that hold a token."""
    return self.total("train_tokens") / (self.n_train_rows * self.seq_len)

  @property
  def gzip_bits_per_byte(self) -> float:
    """Of the held-out text; what a model has to beat."""
    return 8 * self.total("gzip_bytes") / self.heldout_bytes

  @property
  def xz_bits_per_byte(self) -> float:
    """Of the held-out text, likewise."""
    return 8 * self.total("xz_bytes") / self.heldout_bytes

  @property
  def references(self) -> dict[str, float]:
    """Name of a compressor -> its bits per byte of the held-out text."""
    return {
      "gzip -9": self.gzip_bits_per_byte,
      "xz -9": self.xz_bits_per_byte,
    }

  def check_epochs(self, n_rows: int) -> None:
    """Refuses a training of `n_rows` rows in which a source runs dry.

    Raises:
      UserError: names the first source that would be seen too often.
    """
    for part in self.parts:
      epochs = n_rows * part.share / part.n_train_rows
      if part.epochs and epochs > part.epochs:
        raise UserError(
          f"data.mixture: {part.name!r} runs dry: {n_rows} rows at a share of"
          f" {part.share:.3g} are {epochs:.2f} epochs of its"
          f" {part.n_train_rows} rows, and {part.epochs:g} are allowed; lower"
          " its weight, steps or data.batch_size, or allow more epochs"
        )


def prepare_task(config: DataConfig) -> Prepared:
  """Returns what a task has of it: symbols, and no parts.

  Its rows are made when they are read.
  """
  task, options = config.make_task(), config.task_options
  fingerprint = stream.fingerprint(
    config.task, options.facts, task, options.heldout_rows, options.train_rows
  )
  return Prepared((), Symbols(task.vocab_size), fingerprint, config.seq_len)


def prepare(
  config: DataConfig, *, progress: bool = True, workers: int = 1
) -> Prepared:
  """Returns the packed rows of a config, from the cache where they are there.

  The documents are read in any case: their hash is part of the key.

  Args:
    workers: processes; the result does not depend on it.

  Raises:
    UserError: a source, the tokenizer or the split cannot be had as the
      config says, or there are fewer rows than one batch.
  """
  if config.task:
    return prepare_task(config)
  _, prepared = read_and_pack(config, progress=progress, workers=workers)
  return prepared


def read_and_pack(
  config: DataConfig,
  *,
  progress: bool = True,
  workers: int = 1,
  beam: str | None = None,
) -> tuple[Corpus, Prepared]:
  """As `prepare`; returns the corpus too, which knows what was dropped.

  Args:
    beam: flags of Apache Beam, which then cleans.
  """
  fixed = fixed_tokenizer(config)  # a wrong path is told before reading
  with Progress(progress) as track, work.Workers(workers) as team:
    corpus = Corpus(config, track, team, beam)
    return corpus, pack_corpus(config, corpus, team, fixed)


def pack_corpus(
  config: DataConfig,
  corpus: Corpus,
  workers: work.Workers = work.ALONE,
  fixed: Tokenizer | None = None,
) -> Prepared:
  """As `prepare`, of a corpus that has been read.

  Args:
    fixed: the config's tokenizer, where it needs no text.
  """
  if tokenizer := fixed or fixed_tokenizer(config):
    # By its fingerprint: another file may lie at the same path tomorrow.
    folder = root() / "tokenizers" / tokenizer.fingerprint[:32]
    cached(folder, tokenizer.save)
  else:
    tokenizer = trained_tokenizer(config, corpus)
    folder = tokenizer_folder(config, corpus)
  encode = Encode(
    TOKENIZERS[config.tokenizer], folder, _tokenizer_options(config)
  )
  folders, metas = [], []
  for i, part in enumerate(corpus.parts):
    key = _hash(
      corpus.fingerprints[i],
      part.word,
      repr(part.options),
      tokenizer.fingerprint,
      config.seq_len,
    )
    build = functools.partial(
      _pack, corpus, i, tokenizer, encode, config.seq_len, workers, key
    )
    folders.append(cached(root() / "packed" / key, build))
    metas.append(json.loads((folders[-1] / _META).read_text()))
  wanted = shares(config, [meta["train_tokens"] for meta in metas])
  parts = tuple(
    Packed(part.name, share, part.epochs, folder, **meta)
    for part, share, folder, meta in zip(
      corpus.parts, wanted, folders, metas, strict=True
    )
  )
  fingerprint = _hash([folder.name for folder in folders], wanted)
  prepared = Prepared(parts, tokenizer, fingerprint, config.seq_len)
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
    shares(config, [side.bytes for side in corpus.train_sides]),
    corpus.fingerprints,
  )
  return root() / "tokenizers" / key


def fixed_tokenizer(config: DataConfig) -> Tokenizer | None:
  """Returns the config's tokenizer where it needs no text, else None."""
  if config.task:
    return Symbols(config.make_task().vocab_size)
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


@dataclasses.dataclass(frozen=True)
class Encode:
  """Texts to ids, in any process: a tokenizer itself may not pickle."""

  kind: Any
  folder: pathlib.Path
  options: Any

  def __call__(self, texts: Sequence[str]) -> pa.Table:
    ids = _loaded(self).encode_batch(list(texts))
    return pa.table({"ids": pa.array(ids, pa.list_(pa.int32()))})


@functools.lru_cache(maxsize=1)
def _loaded(encode: Encode) -> Tokenizer:
  return encode.kind.load(encode.folder, encode.options)


def _pack(
  corpus: Corpus,
  part: int,
  tokenizer: Tokenizer,
  encode: Encode,
  seq_len: int,
  workers: work.Workers,
  key: str,
  folder: pathlib.Path,
) -> None:
  """Writes both sides' rows and meta.json of a source into `folder`."""
  name = corpus.parts[part].name

  heldout: list[Text] = []  # a part of the text that is small and bounded

  def train() -> Iterator[Text]:
    for text in corpus.kept(f"packing {name}", part):
      if corpus.is_heldout(text):
        heldout.append(text)
      else:
        yield text

  def write(side: str, texts: Iterable[Text]) -> tuple[int, int]:
    batches = ([text.text for text in batch] for batch in batched(texts))
    tables = workers.run(encode, batches, unfinished / side)
    rows = packing.pack(
      _ids(tables),
      seq_len,
      bos_id=tokenizer.bos_id,
      eos_id=tokenizer.eos_id,
      pad_id=tokenizer.pad_id,
    )
    return _write(rows, folder / f"{side}.array_record")

  with work.unfinished(f"encode-{key}") as unfinished:
    n_train_rows, train_tokens = write("train", train())
    n_heldout_rows, _ = write("heldout", heldout)
  utf8 = b"".join(text.text.encode() for text in heldout)
  meta = {
    "n_train_rows": n_train_rows,
    "n_heldout_rows": n_heldout_rows,
    "train_tokens": train_tokens,
    "train_documents": corpus.train_sides[part].documents,
    "train_bytes": corpus.train_sides[part].bytes,
    "heldout_bytes": len(utf8),
    "gzip_bytes": len(gzip.compress(utf8, 9)),
    "xz_bytes": len(lzma.compress(utf8, preset=9)),
  }
  (folder / _META).write_text(json.dumps(meta, indent=2))


def _ids(tables: Iterator[pa.Table]) -> Iterator[np.ndarray]:
  """Yields the ids of each document."""
  for table in tables:
    for chunk in table["ids"].chunks:
      values = chunk.values.to_numpy()
      offsets = chunk.offsets.to_numpy()
      for start, end in itertools.pairwise(offsets):
        yield values[start:end]


def _write(rows: Iterator[packing.Row], file: pathlib.Path) -> tuple[int, int]:
  """Writes packed rows; returns their number and that of the targets."""
  array_record_module = importlib.import_module(
    "array_record.python.array_record_module"
  )
  n_rows = n_targets = 0
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
  return n_rows, n_targets
