"""Corpora out of Debian's packages and a source distribution."""

import gzip
import hashlib
import io
import itertools
import pathlib
import re
import shutil
import string
import struct
import subprocess
import tarfile

import pytest

from ablax.data.builders import CORPORA
from ablax.data.builders.debian import unpacked
from ablax.data.builders.fortunes import FOLDER, sayings
from ablax.data.sources import SOURCES
from ablax.errors import UserError

PROVES = (
  "corpus:bible_kjv",
  "corpus:botchan",
  "corpus:foldoc",
  "corpus:fortunes",
  "corpus:fortunes_zh",
)
NAMES = [what.split(":")[1] for what in PROVES]


def read(name, folder, **options):
  source = SOURCES["tfds"]
  chosen = SOURCES.options("tfds")(name, data_dir=str(folder), **options)
  return [d.text for d in source(chosen).documents()]


def raw(name):
  """The package's files; few machines have them."""
  try:
    return CORPORA[name].raw_files()
  except UserError as error:
    pytest.skip(str(error))


@pytest.fixture
def made(tmp_path, monkeypatch):
  """A function that unpacks files as if a corpus were made of them."""
  monkeypatch.setenv("ABLAX_CACHE", str(tmp_path / "cache"))

  def make(name, **files):
    sums = {}
    for path, content in zip(CORPORA[name].FILES, files.values(), strict=False):
      file = unpacked() / path
      file.parent.mkdir(parents=True, exist_ok=True)
      file.write_bytes(content)
      sums[path] = hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(CORPORA[name], "FILES", sums)

  return make


@pytest.mark.parametrize("name", NAMES)
def test_each_says_what_it_is_and_under_which_licence(name):
  builder = CORPORA[name]
  assert builder.name == name
  assert builder.__doc__ and builder.LICENSE and builder.CITATION
  what, origin = CORPORA.citation(name)
  assert what and origin


@pytest.mark.parametrize("name", NAMES)
def test_a_package_that_is_not_there_is_told_with_the_command(
  name, tmp_path, monkeypatch
):
  monkeypatch.setenv("ABLAX_CACHE", str(tmp_path / "cache"))
  builder = CORPORA[name]
  # Installed or not, this machine has no such files.
  monkeypatch.setattr(builder, "FILES", {"no/such/file": ""})
  with pytest.raises(UserError) as caught:
    read(name, tmp_path / "data")
  message = str(caught.value)
  assert message.startswith(f"the corpus {name!r} lies in ")
  assert "\n" not in message
  if name == "botchan":
    command = (
      "pip download --no-deps --no-binary=:all: sentencepiece==0.2.1"
      f" --dest={tmp_path}/cache/sdist"
    )
  else:
    package = builder.PACKAGE.split("=")[0]
    command = (
      f"apt-get install {builder.PACKAGE}, or without root: apt-get download"
      f" {builder.PACKAGE} && mkdir -p {tmp_path}/cache/debian &&"
      f" dpkg -x {package}_*.deb {tmp_path}/cache/debian"
    )
  assert message.endswith(f": {command}")


def test_other_bytes_than_those_of_the_version_are_refused(made, tmp_path):
  made("fortunes_zh", chinese=b"a\n%\n")
  (unpacked() / FOLDER / "chinese").write_bytes(b"b\n%\n")
  with pytest.raises(UserError) as caught:
    read("fortunes_zh", tmp_path / "data")
  assert str(caught.value).startswith(
    f"Debian's fortunes-zh in {unpacked()} has other bytes in {FOLDER}/chinese,"
    " from which the corpus 'fortunes_zh:1.0.0' is made: apt-get install"
  )


def compressed(text):
  """A stream of compress that learns nothing: each byte is 9 bits."""
  bits = sum(byte << (9 * i) for i, byte in enumerate(text))
  return bits.to_bytes((9 * len(text) + 7) // 8, "little")


def test_a_bible_of_two_windows_is_read_by_chapter(made, tmp_path):
  text = (
    b"Holy Bible.  Textfile 930105.\n"
    b"Ge1:1 In the beginning:\nGe1:2 And the earth\nGe2:1 Thus\n"
    b"1Sa2:1 And Hannah prayed, 3:1\n1Sa2:2 There is none holy\n"
  )
  windows = [compressed(text[:100]), compressed(text[100:])]
  windows[0] = b"\x1f\x9d\x90" + windows[0]
  first = 0x58 + 4 * 4
  starts = [
    first,
    *(first + n for n in itertools.accumulate(map(len, windows))),
  ]
  head = b"EC02Compressed Data File".ljust(0x50, b"\0")
  head += struct.pack(">6I", 0, 100, 2, *starts)
  made("bible_kjv", data=head + b"".join(windows))
  assert read("bible_kjv", tmp_path / "data") == [
    "In the beginning:\nAnd the earth",
    "Thus",
    "And Hannah prayed, 3:1\nThere is none holy",
  ]
  titles = read("bible_kjv", tmp_path / "data", column="title")
  assert titles == ["Ge 1", "Ge 2", "1Sa 2"]


def test_the_bible_is_what_the_program_prints(tmp_path):
  raw("bible_kjv")
  texts = read("bible_kjv", tmp_path)
  # Chapters, verses and books of any King James Bible.
  assert len(texts) == 1189
  assert sum(len(text.split("\n")) for text in texts) == 31_102
  titles = read("bible_kjv", tmp_path, column="title")
  assert len({title.split()[0] for title in titles}) == 66
  program = shutil.which("bible") or unpacked() / "usr/bin/bible"
  data = unpacked() / "usr/lib"
  if not shutil.which(str(program)):
    pytest.skip("without Debian's bible-kjv there is no program")
  where = ["-p", str(data)] if data.is_dir() else []
  printed = subprocess.run(
    [program, *where, "-l9999", "gen1:1-rev22:21"],
    capture_output=True,
    text=True,
    check=True,
  ).stdout
  verses = re.findall(r"^ +\d+ (.*)$", printed, re.MULTILINE)
  assert verses == "\n".join(texts).split("\n")


def test_sayings_are_shown_as_on_a_terminal():
  text = (
    "one\n\n  two\n%\n%\n%DCL, of no end\n%\n"
    "\x1b[32m\u300a\u68a6\u300b\x1b[m\x1b[;\x1b[34;1mx\x1b[0m\a\n%\n"
    "do ___\b\b\bnot, _\bx cafe'\be a__\b\bis\n%   \nlast\n"
  )
  assert list(sayings(text)) == [
    "one\n\n  two",
    "%DCL, of no end",
    "\u300a\u68a6\u300bx",
    "do not, x cafee ais\n%   \nlast",
  ]


def test_topics_are_the_names_of_the_files(made, tmp_path):
  made("fortunes", art=b"a\n%\nb\n", computers=b"c\n%\n")
  folder = tmp_path / "data"
  assert read("fortunes", folder) == ["a", "b", "c"]
  assert read("fortunes", folder, column="topic") == ["art", "art", "computers"]


@pytest.mark.parametrize("name", ["fortunes", "fortunes_zh"])
def test_there_are_as_many_sayings_as_strfile_has_counted(name, tmp_path):
  raw(name)
  folder = unpacked() / FOLDER
  counted = 0
  for path in CORPORA[name].FILES:
    topic = path.split("/")[-1]
    file = folder / f"{topic}.dat"
    file = file if file.is_file() else pathlib.Path("/", f"{path}.dat")
    _, n = struct.unpack_from(">2I", file.read_bytes())
    counted += n
  texts = read(name, tmp_path)
  assert len(texts) == counted
  assert not re.search("[\a\b\x1b]", "".join(texts))


def test_foldoc_is_the_articles_that_the_index_names(made, tmp_path):
  articles = [
    b"00-database-short\n  about\n",
    b"C\n\n  A language \xc3\xa9\n\n",
  ]
  articles += [b"Ada\nAda 83\n\n  Another\n", b"\n"]
  ends = list(itertools.accumulate(map(len, articles)))
  starts = [0, *ends]
  rows = [
    ("00-database-short", 0),
    ("ada", 2),
    ("ada 83", 2),
    ("c", 1),
    ("", 3),
  ]
  index = "".join(
    f"{word}\t{base64(starts[i])}\t{base64(len(articles[i]))}\n"
    for word, i in rows
  )
  packed = gzip.compress(b"".join(articles))
  made("foldoc", dictionary=packed, index=index.encode())
  assert read("foldoc", tmp_path / "data") == [
    "C\n\n  A language \u00e9",
    "Ada\nAda 83\n\n  Another",
  ]


def base64(number):
  """dictd's digits, which are not those of Python's base64."""
  digits = (
    string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"
  )
  text = digits[number % 64]
  return text if number < 64 else base64(number // 64) + text


def test_foldocs_articles_are_all_of_its_file(tmp_path):
  dictionary, _ = raw("foldoc")
  whole = gzip.decompress(dictionary).decode()
  texts = read("foldoc", tmp_path)
  at = 0
  for text in texts:  # in order, and nothing but blank lines in between
    found = whole.index(text, at)
    assert at == 0 or not whole[at:found].strip()
    at = found + len(text)
  assert len(whole) - at < 100  # the letters that occur
  assert "00-database" not in "".join(texts) and len(texts) == 12_014


NOVEL = """\ufeffProject Gutenberg's Botchan\r
*** START OF THIS PROJECT GUTENBERG EBOOK BOTCHAN ***\r
BOTCHAN\r
A NOTE\r
CHAPTER I\r
Because of CHAPTER II\r
CHAPTER II.\r
The end\r
End of Project Gutenberg's Botchan\r
*** END OF THIS PROJECT GUTENBERG EBOOK BOTCHAN ***\r
CHAPTER IV\r
"""


@pytest.fixture
def sdist(tmp_path, monkeypatch):
  monkeypatch.setenv("ABLAX_CACHE", str(tmp_path / "cache"))
  file = tmp_path / "cache/sdist/sentencepiece-0.2.1.tar.gz"
  file.parent.mkdir(parents=True)
  with tarfile.open(file, "w:gz") as archive:
    member = tarfile.TarInfo("sentencepiece-0.2.1/test/botchan.txt")
    member.size = len(NOVEL.encode())
    archive.addfile(member, io.BytesIO(NOVEL.encode()))
  return file


def test_a_novel_is_read_by_chapter(sdist, tmp_path, monkeypatch):
  sha256 = hashlib.sha256(NOVEL.encode()).hexdigest()
  monkeypatch.setattr(CORPORA["botchan"], "FILES", {"test/botchan.txt": sha256})
  assert read("botchan", tmp_path / "data") == [
    "BOTCHAN\nA NOTE\n",
    "CHAPTER I\nBecause of CHAPTER II\n",
    "CHAPTER II.\nThe end\n",
  ]


def test_a_source_that_is_another_or_broken_is_refused(sdist, tmp_path):
  with pytest.raises(UserError, match=r"has other bytes in test/botchan\.txt"):
    read("botchan", tmp_path / "data")
  sdist.write_bytes(sdist.read_bytes()[:50])
  with pytest.raises(UserError, match=r"has no test/botchan\.txt"):
    read("botchan", tmp_path / "data")


def test_botchan_is_a_note_and_eleven_chapters(tmp_path):
  (file,) = raw("botchan")
  texts = read("botchan", tmp_path)
  assert len(texts) == 12
  assert [text.split("\n")[0].rstrip(".") for text in texts[1:]] == [
    f"CHAPTER {n}" for n in "I II III IV V VI VII VIII IX X XI".split()
  ]
  assert "Gutenberg" not in "".join(texts)
  whole = file.decode().replace("\r\n", "\n")
  assert "".join(texts) in whole
