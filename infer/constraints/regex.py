"""Output by regular expression (Willard and Louf 2023, arXiv:2307.09702)."""


def regex(value: str) -> str:
  """The grammar of texts that match `value` as a whole.

  The syntax is that of Rust's `regex`: no look-around, no back references.
  """
  import llguidance

  return llguidance.LLMatcher.grammar_from_regex(value)
