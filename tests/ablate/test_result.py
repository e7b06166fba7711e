"""A run's row in a file of its own."""

import json
import math

import records

from ablax.ablate.result import FILE, read_result, write_result


def test_what_is_no_number_is_null_in_json_and_comes_back_as_nan(tmp_path):
  curve = {"loss": ((1, 2.0), (2, math.nan), (3, math.inf))}
  run = records.run(final={"loss": math.inf, "x": 1.5}, curves=curve)
  write_result(tmp_path, run)

  def refuse(word):
    raise AssertionError(f"{word} is not JSON")

  json.loads((tmp_path / FILE).read_text(), parse_constant=refuse)
  again = read_result(tmp_path / FILE)
  assert again.final["x"] == 1.5 and math.isnan(again.final["loss"])
  values = [v for _, v in again.curves["loss"]]
  assert values[0] == 2.0 and all(map(math.isnan, values[1:]))
