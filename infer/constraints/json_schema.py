"""JSON that a schema accepts (Geng et al. 2025, arXiv:2501.10868)."""

import json
from collections.abc import Mapping
from typing import Any

from ...errors import UserError


def json_schema(value: str | Mapping[str, Any]) -> str:
  """The grammar of the schema's documents.

  Between the marks of JSON stands at most one space: with free white space, as
  JSON allows, a weak model writes nothing else to the end.

  Raises:
    UserError: the text is not JSON, or not an object.
  """
  import llguidance

  try:
    schema = json.loads(value) if isinstance(value, str) else dict(value)
  except json.JSONDecodeError as error:
    raise UserError(
      f"json_schema={str(value)[:40]!r} is not JSON: {error}; write one object,"
      ' such as {"type": "object"}'
    ) from None
  if not isinstance(schema, dict):
    raise UserError(
      f"json_schema={json.dumps(schema)[:40]} must be an object, such as"
      ' {"type": "object"}'
    )
  return llguidance.LLMatcher.grammar_from_json_schema(
    schema, overrides={"whitespace_pattern": " ?"}
  )
