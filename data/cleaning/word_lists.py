"""Lists of toxic words and phrases, and how to write your own.

The built-in lists are short, English and Chinese, and hold obscenities, threats
and pornographic spam that hardly occur in other text. There are no slurs among
them: most have innocent meanings too, and which to drop is a decision about the
data that should be seen, in a file of yours:

  # a comment
  [slurs]            the category, which the reason names
  a word             whole words, whatever their case
  some words<TAB>2   and their weight, 1 where it is not said
  /colou?rs?/        a regular expression, searched whatever the case
"""

import math
import pathlib
import re
from typing import NamedTuple

from ...errors import UserError
from .words import hash_of

_UNNAMED = "word list"  # the category of a file's entries before the first
BUILTIN = """
[obscenity]
fuck
fucks
fucked
fucker
fuckers
fuckin
fucking
motherfucker
motherfuckers
motherfucking
shit
shits
shitty
bullshit
asshole
assholes
他妈的
操你妈
傻逼
妈的逼
王八蛋
[threat]
kys\t5
kill yourself\t5
go kill yourself\t5
hope you die\t5
i will kill you\t5
deserve to be shot\t5
去死吧\t5
弄死你\t5
杀了你全家\t5
[pornography]
porn
porno
blowjob
blowjobs
cumshot
cumshots
creampie
handjob
gangbang
xxx video
xxx videos
色情片
黄片
裸聊
约炮
"""


class Entry(NamedTuple):
  """One line of a list; `is_pattern` says that `text` is a regex."""

  text: str
  is_pattern: bool
  category: str
  weight: float


def entries(text: str, path: str) -> list[Entry]:
  """Reads a list of words; `path` is for messages.

  Raises:
    UserError: a line is no word, regular expression or weight.
  """
  found, category = [], _UNNAMED
  for number, line in enumerate(text.splitlines(), 1):
    entry, tab, weight = line.strip().partition("\t")
    entry = entry.strip()
    if not entry or entry.startswith("#"):
      continue
    if entry.startswith("[") and entry.endswith("]"):
      category = entry[1:-1].strip()
      continue
    where = f"data.opts.toxicity.words: {path}:{number}"
    try:
      value = float(weight) if tab else 1.0
    except ValueError:
      value = 0.0
    if not 0 < value < math.inf:
      raise UserError(
        f"{where} has the weight {weight.strip()!r}; write a positive number"
        " after the tab"
      )
    is_pattern = len(entry) > 1 and entry[0] == entry[-1] == "/"
    if is_pattern:
      entry = entry[1:-1]
      try:
        is_empty = re.compile(entry, re.IGNORECASE).search("") is not None
      except re.error as error:
        raise UserError(
          f"{where} is not a regular expression ({error}); mend it, or drop"
          " the slashes for a word"
        ) from None
      if is_empty:
        raise UserError(
          f"{where} matches the empty text, which is everywhere; make it match"
          " at least one character"
        )
    elif not hash_of(entry)[0]:
      raise UserError(
        f"{where} has no letter or digit; write it as /regular expression/"
      )
    found.append(Entry(entry, is_pattern, category, value))
  return found


def read(path: str) -> str:
  try:
    return pathlib.Path(path).expanduser().read_text(encoding="utf-8-sig")
  except FileNotFoundError:
    raise UserError(
      f"data.opts.toxicity.words names {path}, which does not exist; paths are"
      f" taken from {pathlib.Path.cwd()}"
    ) from None
  except (OSError, UnicodeDecodeError) as error:
    raise UserError(
      f"data.opts.toxicity.words names {path}, which cannot be read as UTF-8"
      f" text ({error}); name a text file"
    ) from None
