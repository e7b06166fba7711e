"""What is and is not UTF-8 (Yergeau 2003, RFC 3629)."""

from ...errors import UserError


def to_bytes(text: str, name: str = "a text") -> bytes:
  """Returns the UTF-8 bytes of `text`; `name` is for the message.

  Raises:
    UserError: `text` holds a lone surrogate, which has no bytes.
  """
  try:
    return text.encode("utf-8")
  except UnicodeEncodeError as error:
    raise UserError(
      f"{name} holds the lone surrogate U+{ord(text[error.start]):04X} at"
      f" character {error.start}, which UTF-8 cannot hold; replace it:"
      ' text.encode("utf-8", "replace").decode()'
    ) from None
