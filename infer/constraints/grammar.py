"""Output by grammar (Geng et al. 2023, arXiv:2305.13971)."""


def grammar(value: str) -> str:
  """The Lark grammar `value`, whose first rule is `start`."""
  import llguidance

  return llguidance.LLMatcher.grammar_from_lark(value)
