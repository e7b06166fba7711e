"""What the catalog knows of a technique that no registry has."""

from typing import NamedTuple


class Feature(NamedTuple):
  """A technique, the config word that chooses it, and where it is written.

  Attributes:
    word: config key and a value, or a command with its flag.
    paper: "" for a command that is no paper's.
    file: relative to the root of the repository.
  """

  word: str
  technique: str
  paper: str
  file: str
