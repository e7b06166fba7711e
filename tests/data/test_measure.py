"""What is measured of a tokenizer, against what is counted by hand."""

import pytest

from ablax.data.tokenizers.bytes import Bytes
from ablax.data.tokenizers.measure import HARD, measure
from ablax.data.tokenizers.report import Row, report
from ablax.data.tokenizers.udhr import ARTICLE_1, WITHOUT_SPACES

PROVES = ("feature:tokenizer_measures",)


class Lowers(Bytes):
  """Loses case, and makes two tokens of each byte."""

  def _encode(self, texts):
    return [[i for i in ids for _ in (0, 1)] for ids in super()._encode(texts)]

  def decode(self, ids):
    return super().decode(list(ids)[::2]).lower()


def test_measures_are_those_of_bytes():
  measured = measure(Bytes(), ["añ", "b" * 7])
  assert measured.bytes_per_token == 1.0
  assert (measured.n_texts, measured.n_changed) == (2, 0)
  assert measured.hard_changed == ()
  assert measured.bytes_per_second > 0
  english = ARTICLE_1["english"]
  n_words = english.count(" ") + 1
  assert measured.fertility["english"] == len(english) / n_words
  # All of its characters have three bytes.
  assert measured.fertility["chinese"] == 3.0


def test_what_comes_back_changed_is_counted_and_named():
  measured = measure(Lowers(), ["ab", "Ab", "B"])
  assert measured.bytes_per_token == 0.5
  assert (measured.n_texts, measured.n_changed) == (3, 2)
  assert measured.hard_changed == tuple(
    name for name, text in HARD.items() if text != text.lower()
  )


def test_languages_without_spaces_are_those_without():
  for language, text in ARTICLE_1.items():
    assert (" " not in text) == (language in WITHOUT_SPACES)


def test_what_is_lost_is_told_below_the_table(capsys, monkeypatch):
  monkeypatch.setenv("COLUMNS", "120")
  rows = [
    Row("plain", 259, {}, "", None, "", measure(Bytes(), ["a", "B"])),
    Row("lowers", 259, {}, "", 1.25, "case", measure(Lowers(), ["a", "B"])),
  ]
  report(rows, 2, 1000)
  out = capsys.readouterr().out
  assert "on 2 held-out bytes, 1,000 bytes for training" in out
  assert "changes 1 of 2" in out and "exact" in out and " 1.2 " in out
  assert "lowers loses: case\n" in out and "plain loses" not in out
  assert "lowers changes: code, wordpiece's marks" in out
  assert "chinese*" in out and "english " in out


@pytest.mark.parametrize("language", ARTICLE_1)
def test_each_article_is_one_text_without_stray_spaces(language):
  text = ARTICLE_1[language]
  assert text == " ".join(text.split()) and len(text) > 40
