"""What the import of a tokenizer must find out: its file, and its ends.

The shared part of `tokenizer_json` and `sentencepiece`.
"""

import dataclasses
import json
import pathlib
from collections.abc import Collection, Mapping

from ...errors import UserError, nearest
from .hugging_face import CONFIG, Ends
from .pieces import SpecialTokens
from .utf8 import to_bytes

# Beside the vocabulary in a folder of transformers'; the first counts most.
_SAID = (CONFIG, "special_tokens_map.json")
# Where nothing beside the vocabulary says which they are.
_USUAL = {
  "pad": ("<pad>", "[PAD]", "<|pad|>", "<|finetune_right_pad_id|>"),
  "bos": ("<s>", "<bos>", "<|begin_of_text|>", "<|startoftext|>", "[CLS]"),
  "eos": ("</s>", "<eos>", "<|end_of_text|>", "<|endoftext|>", "[SEP]"),
}
# BERT has these two instead.
_INSTEAD = {"bos": "cls_token", "eos": "sep_token"}


@dataclasses.dataclass(frozen=True)
class Options(SpecialTokens):
  """What to import.

  path: of the file, or of a folder that holds it.
  pad, bos, eos: names of the tokens that fill up, begin and end a text; "": as
    the files say.
  """

  path: str = ""
  pad: str = ""
  bos: str = ""
  eos: str = ""

  def __post_init__(self):
    super().__post_init__()
    for end in Ends._fields:
      to_bytes(getattr(self, end), end)


def find(path: str, pattern: str, kind: str) -> pathlib.Path:
  """Returns the file that an import's option `path` names.

  Args:
    pattern: of the file's name, for a path that is a folder's.
    kind: the registry's word, for the message.
  """
  key = f"data.opts.{kind}.path"
  if not path:
    raise UserError(f"{key} is empty; name a {pattern} or a folder with one")
  file = pathlib.Path(path).expanduser()
  if file.is_file():
    return file
  if not file.is_dir():
    raise UserError(f"{key}={path!r} is neither a file nor a folder")
  found = sorted(file.glob(pattern))
  if len(found) == 1:
    return found[0]
  there = found or sorted(file.iterdir())
  names = ", ".join(other.name for other in there[:8]) or "nothing"
  n = "several" if found else "no"
  raise UserError(
    f"{key}={path!r} is a folder with {n} {pattern}: it holds {names}; name"
    " the file"
  )


def find_ends(
  file: pathlib.Path,
  special: Collection[str],
  known: Collection[str],
  options: Options,
  kind: str,
) -> Ends:
  """Returns the names that options, the files beside or custom give.

  Nothing is appended that none of them names, so that the vocabulary keeps the
  size of the checkpoint that comes with it. Without a token that begins a text,
  the one that ends texts does, as in GPT-2; without one that fills up, the same
  does: padding is told by its segment, not by its id.

  Args:
    special: names of the file's control tokens.
    known: all of its names.

  Raises:
    UserError: an option names no token, or there is none that ends a text.
  """
  said = _said_beside(file)
  names: dict[str, str] = {}
  for end in Ends._fields:
    named = getattr(options, end)
    if named and named not in known and named not in options.special_tokens:
      raise UserError(
        f"data.opts.{kind}.{end}={named!r} is not a token of {file}"
        f"{nearest(named, special)}; to append it, name it in"
        f" data.opts.{kind}.special_tokens, too"
      )
    usual = (name for name in _USUAL[end] if name in special)
    names[end] = named or said.get(end) or next(usual, "")
  eos = names["eos"] or names["bos"]
  if not eos:
    raise UserError(
      f"{file} does not say which token ends a text; name it:"
      f" data.opts.{kind}.eos; its control tokens are:"
      f" {', '.join(sorted(special)[:20]) or 'none'}"
    )
  return Ends(names["pad"] or eos, names["bos"] or eos, eos)


def _said_beside(file: pathlib.Path) -> dict[str, str]:
  found: dict[str, str] = {}
  for name in _SAID:
    beside = file.with_name(name)
    if not beside.is_file():
      continue
    try:
      said = json.loads(beside.read_text(encoding="utf-8"))
    except ValueError as error:
      raise UserError(f"{beside} is not JSON: {error}") from None
    if not isinstance(said, Mapping):
      raise UserError(
        f"{beside} is a JSON {type(said).__name__}, not an object; mend it, or"
        " take it away and name the tokens in options"
      )
    for end in Ends._fields:
      for key in (f"{end}_token", _INSTEAD.get(end, "")):
        token = said.get(key)
        if isinstance(token, Mapping):
          token = token.get("content")
        if token and not isinstance(token, str):
          raise UserError(
            f"{beside}: {key}={token!r} must be a text; mend it, or take the"
            " file away and name the token in options"
          )
        if token:
          found.setdefault(end, token)
  return found
