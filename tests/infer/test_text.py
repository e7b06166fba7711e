"""From tokens to text: whole characters, and nothing of a stop text."""

import pytest

from ablax.infer.text import Growing, Stream


@pytest.mark.parametrize("piece", [1, 2, 3, 5, 100])
@pytest.mark.parametrize(
  ("text", "stop", "kept"),
  [
    ("naïve 日本 café", (), "naïve 日本 café"),
    ("a 日本 b", ("本",), "a 日"),
    ("aab aaab", ("aaab",), "aab "),
    ("abcd", ("bcd", "c"), "ab"),  # "c" is whole before "bcd" is
    ("abcx", ("bcd", "abcde"), "abcx"),
    ("ends in a sto", ("stop",), "ends in a sto"),
  ],
)
def test_streams_whole_characters_and_nothing_of_a_stop(
  piece, text, stop, kept
):
  stream = Stream(stop)
  data, shown = text.encode(), ""
  for i in range(0, len(data), piece):
    shown += stream.push(data[i : i + piece])
    assert kept.startswith(shown)
    if stream.stopped:
      break
  else:
    shown += stream.push(b"", final=True)
  assert shown == stream.text == kept
  assert stream.stopped == (kept != text)


def test_what_is_no_part_of_a_stop_text_is_shown_at_once():
  stream = Stream(("stop",))
  assert [stream.push(b) for b in (b"a", b"s", b"to", b"ne")] == [
    "a",
    "",
    "",
    "stone",
  ]


def test_a_broken_character_at_the_end_is_replaced():
  stream = Stream(())
  assert stream.push("é".encode()[:1]) == ""
  assert stream.push(b"", final=True) == "\N{REPLACEMENT CHARACTER}"


def test_a_fork_grows_by_itself(letters):
  tokenizer = letters()
  one = Growing(tokenizer, ("cd",), 9, "length")
  for token in tokenizer.encode("abc"):
    one.push(token, -1.0)
  two = one.fork()
  assert one.push(tokenizer.encode("d")[0], -2.0) == ""
  assert one.completion().text == "ab" and one.finish == "stop"
  assert two.finish is None and len(two.tokens) == 3
  assert two.push(tokenizer.encode("e")[0], -3.0) == "ce"
  assert two.push(2, -4.0) == ""
  found = two.completion(score=0.5)
  assert (found.text, found.finish, found.score) == ("abce", "eos", 0.5)
  assert found.logprobs == (-1.0, -1.0, -1.0, -3.0, -4.0)
