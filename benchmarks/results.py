"""One line of JSON for each result: what was measured, where and when."""

import datetime
import json
import os
import pathlib
import platform
from collections.abc import Mapping
from typing import Any


def append(
  file: str | os.PathLike[str], benchmark: str, found: Mapping[str, Any]
) -> None:
  """Adds a result to a file such as benchmarks/results.jsonl."""
  line = {
    "benchmark": benchmark,
    **found,
    "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    "date": datetime.date.today().isoformat(),
  }
  with pathlib.Path(file).open("a", encoding="utf-8") as stream:
    stream.write(json.dumps(line) + "\n")
