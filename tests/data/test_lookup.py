"""Characters and words: counted by hand, spelled where they are unknown."""

import pytest

from ablax.data.tokenizers.characters import Characters
from ablax.data.tokenizers.lookup import Options
from ablax.data.tokenizers.measure import HARD
from ablax.data.tokenizers.udhr import ARTICLE_1
from ablax.data.tokenizers.words import Words

PROVES = ("tokenizer:characters", "tokenizer:words")


def byte(char):
  """Pad, BOS, EOS, then the 256 bytes."""
  return 3 + ord(char)


def test_characters_have_ids_by_count_then_by_code_point():
  text = "日日日éaé本aa語"
  ours = Characters.train([text, "é"], 259 + 3, Options())
  # é and 日 three times each, 本 and 語 once, and there is room for three.
  assert ours.encode("é日本a") == [259, 260, 261, byte("a")]
  assert ours.encode("語") == [3 + b for b in "語".encode()]
  assert ours.vocab_size == 262


def test_min_count_leaves_rare_characters_to_their_bytes():
  ours = Characters.train(["日日é"], 300, Options(min_count=2))
  assert ours.vocab_size == 260 and len(ours.encode("日é")) == 3


def test_words_have_ids_by_count_then_by_code_point():
  text = "the cat, the dog; the cat!\n"
  ours = Words.train([text * 3], 259 + 3, Options())
  the, cat, dog = 259 + 1, 259, 259 + 2
  first = [byte(c) for c in "the"]  # without a space: another word
  assert [ours.token_bytes(i) for i in (cat, the, dog)] == [
    b" cat",
    b" the",
    b" dog",
  ]
  assert ours.encode(text) == [
    *(*first, cat, byte(","), the, dog, byte(";"), the, cat),
    *(byte("!"), byte("\n")),
  ]
  assert ours.encode(" cow") == [byte(c) for c in " cow"]


@pytest.mark.parametrize(
  ("text", "words"),
  [
    ("if  self_x1 == 10.5:\n\t#", "if| | self_x1| ==| 10|.|5|:|\n|\t|#"),
    ("a\n\n  b", "a|\n\n | b"),
    ("我愛 中文。", "我|愛| |中|文|。"),
    ("すべて is", "す|べ|て| is"),
    ("सभी मनुष्यों को", "सभी| मनुष्यों| को"),
    ("e\u0301te\u0301 été", "e\u0301te\u0301| été"),
    ("don't", "don|'|t"),
    ("end  ", "end|  "),
  ],
)
def test_a_text_is_cut_into_words_marks_included(text, words):
  assert Words.cut(text) == words.split("|")


@pytest.mark.parametrize("text", [*HARD.values(), *ARTICLE_1.values()])
def test_a_cut_text_joins_to_itself(text):
  assert "".join(Words.cut(text)) == text
