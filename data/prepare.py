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
from .prepared import Packed, Prepared
from .progress import Progress
from .tasks import stream
from .tasks.symbols import Symbols
from .texts import Text, batched
from .tokenizers import TOKENIZERS, Tokenizer

FORMAT = 2  # of what is in the cache; raise it when that changes
_META = "meta.json"


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
  folders, metas, at_lengths = [], [], []
  for i in range(len(corpus.parts)):
    source = _Packing(corpus, i, tokenizer, encode, workers)
    folders.append(source.both_sides(config.seq_len))
    metas.append(json.loads((folders[-1] / _META).read_text()))
    at_lengths.append(source.heldout(config.lengths))
  wanted = shares(config, [meta["train_tokens"] for meta in metas])
  parts = tuple(
    Packed(part.name, share, part.epochs, folder, files, **meta)
    for part, share, folder, files, meta in zip(
      corpus.parts, wanted, folders, at_lengths, metas, strict=True
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


@dataclasses.dataclass(frozen=True)
class _Packing:
  """The packing of one source."""

  corpus: Corpus
  part: int
  tokenizer: Tokenizer
  encode: Encode
  workers: work.Workers

  def both_sides(self, seq_len: int) -> pathlib.Path:
    """Returns the folder of both sides' rows, with meta.json."""
    key = self._key(seq_len)
    build = functools.partial(self._write_both, seq_len, key)
    return cached(root() / "packed" / key, build)

  def heldout(self, lengths: Sequence[int]) -> dict[int, pathlib.Path]:
    """Returns length -> the file of the held-out documents' rows of it."""
    if not lengths:
      return {}
    key = self._key(lengths)
    build = functools.partial(self._write_heldout, lengths, key)
    folder = cached(root() / "packed" / key, build)
    return {length: folder / f"{length}.array_record" for length in lengths}

  def _key(self, what: Any) -> str:
    part = self.corpus.parts[self.part]
    return _hash(
      self.corpus.fingerprints[self.part],
      part.word,
      repr(part.options),
      self.tokenizer.fingerprint,
      what,
    )

  def _texts(self) -> Iterator[Text]:
    """Yields the source's documents, held out or not."""
    name = self.corpus.parts[self.part].name
    yield from self.corpus.kept(f"packing {name}", self.part)

  def _write(
    self,
    texts: Iterable[Text],
    seq_len: int,
    file: pathlib.Path,
    unfinished: pathlib.Path,
  ) -> tuple[int, int]:
    """Writes rows; returns their number and that of the targets."""
    batches = ([text.text for text in batch] for batch in batched(texts))
    tables = self.workers.run(self.encode, batches, unfinished)
    rows = packing.pack(
      _ids(tables),
      seq_len,
      bos_id=self.tokenizer.bos_id,
      eos_id=self.tokenizer.eos_id,
      pad_id=self.tokenizer.pad_id,
    )
    return _write(rows, file)

  def _write_both(self, seq_len: int, key: str, folder: pathlib.Path) -> None:
    heldout: list[Text] = []  # a part of the text that is small and bounded

    def train() -> Iterator[Text]:
      for text in self._texts():
        if self.corpus.is_heldout(text):
          heldout.append(text)
        else:
          yield text

    with work.unfinished(f"encode-{key}") as unfinished:

      def write(side: str, texts: Iterable[Text]) -> tuple[int, int]:
        file = folder / f"{side}.array_record"
        return self._write(texts, seq_len, file, unfinished / side)

      n_train_rows, train_tokens = write("train", train())
      n_heldout_rows, _ = write("heldout", heldout)
    utf8 = b"".join(text.text.encode() for text in heldout)
    side = self.corpus.train_sides[self.part]
    meta = {
      "n_train_rows": n_train_rows,
      "n_heldout_rows": n_heldout_rows,
      "train_tokens": train_tokens,
      "train_documents": side.documents,
      "train_bytes": side.bytes,
      "heldout_bytes": len(utf8),
      "gzip_bytes": len(gzip.compress(utf8, 9)),
      "xz_bytes": len(lzma.compress(utf8, preset=9)),
    }
    (folder / _META).write_text(json.dumps(meta, indent=2))

  def _write_heldout(
    self, lengths: Sequence[int], key: str, folder: pathlib.Path
  ) -> None:
    heldout = [t for t in self._texts() if self.corpus.is_heldout(t)]
    with work.unfinished(f"encode-{key}") as unfinished:
      for length in lengths:
        file = folder / f"{length}.array_record"
        # Encoded once: the second length reads what the first one left.
        self._write(heldout, length, file, unfinished)


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
