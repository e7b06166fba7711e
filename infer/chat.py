"""Chat templates: messages to the tokens of a prompt.

A template is Jinja2 text, as model makers publish it; it is rendered in a
sandbox, with the functions and the white space that transformers gives it.
ChatML (OpenAI 2023) is built in.

ids = encode_chat(load_template("chatml"), tokenizer, [
  {"role": "user", "content": "Who are you?"}])
"""

import datetime
import functools
import json
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox

from ..errors import UserError, nearest
from .tokenizer import Tokenizer, special_tokens

TEMPLATES = {
  "chatml": (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content']"
    " + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
  ),
}
# Other names of what a model thought before it answered.
_REASONING = ("reasoning_content", "thinking", "reasoning")

Message = Mapping[str, Any]


def load_template(name: str) -> str:
  """A template by name, or from a file.

  A file is Jinja2 text, or the JSON of a `tokenizer_config.json`, whose
  `chat_template` it is.

  Raises:
    UserError: neither.
  """
  if name in TEMPLATES:
    return TEMPLATES[name]
  file = pathlib.Path(name)
  if not file.is_file():
    raise UserError(
      f"chat={name!r} is neither a template nor a file"
      f"{nearest(name, TEMPLATES)}"
    )
  try:
    text = file.read_text(encoding="utf-8")
  except UnicodeDecodeError:
    raise UserError(
      f"chat={name!r} is not UTF-8; save the template as UTF-8 text"
    ) from None
  if file.suffix != ".json":
    return text
  try:
    found = json.loads(text)["chat_template"]
  except (ValueError, KeyError, TypeError):
    found = None
  if not isinstance(found, str):
    raise UserError(f"chat={name!r} is JSON without a text chat_template")
  return found


def render(
  template: str,
  messages: Sequence[Message],
  *,
  tools: Sequence[Mapping[str, Any]] | None = None,
  documents: Sequence[Mapping[str, Any]] | None = None,
  add_generation_prompt: bool = True,
  **variables: Any,
) -> str:
  """The text of a conversation, as transformers' `apply_chat_template` gives.

  Args:
    messages: each has a role and a content, or what the template asks for.
    tools: JSON schemas of functions.
    add_generation_prompt: end with the beginning of an answer.
    variables: what else the template reads, `bos_token` for instance.

  Raises:
    UserError: the template is malformed, or refuses the messages.
  """
  if not messages:
    raise UserError("a chat without messages has no text; give one at least")
  given = _plain(
    {"messages": messages, "tools": tools, "documents": documents, **variables}
  )
  given["messages"] = [_message(message) for message in given["messages"]]
  try:
    return _compiled(template).render(
      add_generation_prompt=add_generation_prompt, **given
    )
  except jinja2.TemplateError as error:
    raise UserError(f"the chat template refuses: {error}") from None
  except (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
  ) as error:
    raise UserError(
      f"the chat template fails on these messages: {error}"
    ) from None


def encode_chat(
  template: str,
  tokenizer: Tokenizer,
  messages: Sequence[Message],
  **arguments: Any,
) -> list[int]:
  """The ids of a rendered conversation, control tokens included.

  The template's own control tokens become their ids. The same names inside a
  message, a tool or a document stay text, so that nobody's text can end
  somebody's turn; only the assistant's own messages are taken as written.

  Args:
    arguments: those of `render`; `bos_token` and `eos_token` have the names
      that the tokenizer gives them.
  """
  control = _control(tokenizer)
  names = {token: name for name, token in control.items()}
  arguments = {
    "bos_token": names[tokenizer.bos_id],
    "eos_token": names[tokenizer.eos_id],
  } | arguments
  shown = json.dumps([messages, arguments, template], ensure_ascii=False)
  # One private character that nobody uses stands for each name.
  free = (chr(c) for c in range(0xF0000, 0xFFFFE) if chr(c) not in shown)
  stands_for = dict(zip(free, control, strict=False))
  hidden = {name: mark for mark, name in stands_for.items()}

  def hide(value: Any) -> Any:
    if isinstance(value, str):
      return _any_of(control).sub(lambda match: hidden[match[0]], value)
    if isinstance(value, Mapping):
      return {key: hide(inner) for key, inner in value.items()}
    if isinstance(value, Sequence):
      return [hide(inner) for inner in value]
    return value

  messages = [
    message if message.get("role") == "assistant" else hide(message)
    for message in messages
  ]
  for key in ("tools", "documents"):
    if key in arguments:
      arguments[key] = hide(arguments[key])
  text = render(template, messages, **arguments)
  ids: list[int] = []
  # Texts and names in turn.
  for i, part in enumerate(_any_of(control, keep=True).split(text)):
    if i % 2:
      ids.append(control[part])
    else:
      for mark, name in stands_for.items():
        part = part.replace(mark, name)
      ids += tokenizer.encode(part) if part else []
  return ids


def end_of_turn(template: str, tokenizer: Tokenizer) -> str:
  """What the template puts after an answer: a stop text; "" for nothing."""
  answer = "an answer"
  conversation = [
    {"role": "user", "content": "a question"},
    {"role": "assistant", "content": answer},
  ]
  control = _control(tokenizer)
  names = {token: name for name, token in control.items()}
  try:
    text = render(
      template,
      conversation,
      add_generation_prompt=False,
      bos_token=names[tokenizer.bos_id],
      eos_token=names[tokenizer.eos_id],
    )
  except UserError:  # it wants messages that we do not know
    return ""
  _, found, after = text.rpartition(answer)
  name = _any_of(control).search(after)
  return (name[0] if name else after.strip()) if found else ""


def _control(tokenizer: Tokenizer) -> dict[str, int]:
  """Name -> id; BOS and EOS have a name in any case."""
  known = special_tokens(tokenizer)
  for name, token in (("<s>", tokenizer.bos_id), ("</s>", tokenizer.eos_id)):
    if token not in known.values():
      known[name] = token
  return known


def _any_of(names: Iterable[str], keep: bool = False) -> re.Pattern[str]:
  # Of two names that begin alike, the longer.
  ordered = sorted(names, key=len, reverse=True)
  pattern = "|".join(map(re.escape, ordered))
  return re.compile(f"({pattern})" if keep else pattern)


def _plain(value: Any) -> Any:
  """A copy of nothing but JSON: a sandbox can't judge foreign objects."""
  try:
    return json.loads(json.dumps(value))
  except (TypeError, ValueError) as error:
    raise UserError(f"a chat's messages must be JSON: {error}") from None


def _message(message: dict[str, Any]) -> dict[str, Any]:
  """A message without empty keys, its reasoning under every usual name."""
  message = {k: v for k, v in message.items() if v is not None}
  reasoning = [message[key] for key in _REASONING if key in message]
  if reasoning:
    message = {"thinking": reasoning[0], **message}
    message["reasoning_content"] = reasoning[0]
  return message


class _Generation(jinja2.ext.Extension):
  """`{% generation %}` marks what a model is trained on: here it is text."""

  def __init__(self, environment: jinja2.Environment):
    super().__init__(environment)
    self.tags = {"generation"}

  def parse(self, parser: Any) -> list[jinja2.nodes.Node]:
    next(parser.stream)
    return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@functools.lru_cache(maxsize=16)
def _compiled(template: str) -> jinja2.Template:
  environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True,
    lstrip_blocks=True,
    extensions=[jinja2.ext.loopcontrols, _Generation],
  )
  # Jinja's own filter escapes what HTML would mistake.
  environment.filters["tojson"] = _to_json
  environment.globals["raise_exception"] = _raise
  environment.globals["strftime_now"] = lambda format: (
    datetime.datetime.now().strftime(format)
  )
  return environment.from_string(template)


def _to_json(
  value: Any,
  ensure_ascii: bool = False,
  indent: int | None = None,
  separators: tuple[str, str] | None = None,
  sort_keys: bool = False,
) -> str:
  return json.dumps(
    value,
    ensure_ascii=ensure_ascii,
    indent=indent,
    separators=separators,
    sort_keys=sort_keys,
  )


def _raise(message: str) -> None:
  raise jinja2.TemplateError(message)
