"""Language: the tags of ten languages, written for this file, and of code."""

import random

import dirty
import pytest

from ablax.data.cleaning.language import Language, Options
from ablax.errors import UserError

PROVES = ("cleaning step:language",)

TEXTS = {
  "en": "The ferry leaves at nine, and if the wind turns we shall stay here"
  " until somebody finds the key to the boathouse.",
  "zh": "渡船九点出发，要是风向变了，我们就留在这里，直到有人找到船屋的钥匙。",
  "fr": dirty.FRENCH,
  "de": "Die Fähre legt um neun Uhr ab, und wenn der Wind dreht, bleiben wir"
  " hier, bis jemand den Schlüssel zum Bootshaus findet.",
  "es": "El barco sale a las nueve, y si cambia el viento nos quedaremos aquí"
  " hasta que alguien encuentre la llave del cobertizo.",
  "ru": "Паром отходит в девять, и если ветер переменится, мы останемся здесь,"
  " пока кто-нибудь не найдёт ключ от лодочного сарая.",
  "ja": "渡し船は九時に出ます。風向きが変わったら、誰かが船小屋の鍵を"
  "見つけるまでここにいましょう。",
  "ar": "تغادر العبارة في التاسعة، وإذا تغيرت الريح فسوف نبقى هنا حتى يجد أحدهم"
  " مفتاح بيت القوارب.",
  "hi": "नाव नौ बजे चलेगी, और अगर हवा बदल गई तो हम यहीं रुकेंगे जब तक किसी को"
  " नावघर की चाबी न मिल जाए।",
  "ko": "배는 아홉 시에 떠나고, 바람이 바뀌면 누군가 창고 열쇠를 찾을 때까지"
  " 우리는 여기에 머물 것이다.",
  "pt": "A balsa sai às nove, e se o vento mudar ficaremos aqui até que alguém"
  " encontre a chave da casa dos barcos.",
}


@pytest.fixture(scope="module")
def language():
  return Language(Options())


def test_ten_languages_get_their_tags_and_two_are_kept(language):
  verdicts = language.judge(list(TEXTS.values()))
  for tag, verdict in zip(TEXTS, verdicts, strict=True):
    reason = "" if tag in ("en", "zh") else f"language: {tag}"
    assert verdict == (reason, tag)


def test_planted_documents_get_the_language_they_are_written_in(language):
  documents = [d for d in dirty.corpus() if d.kind != "menu"]
  verdicts = language.judge([d.text for d in documents])
  tags = {"chinese": "zh", "french": "fr"}
  for document, verdict in zip(documents, verdicts, strict=True):
    kinds = [document.kind]
    if document.origin >= 0:
      kinds = [documents[document.origin].kind]
    if document.kind == "toxic":
      kinds = ["english" if document.text.isascii() else "chinese"]
    assert verdict.note == tags.get(kinds[0], "en"), document


def test_code_with_english_in_it_is_english_and_bare_code_is_undetermined(
  language,
):
  assert language.tag(dirty.code(random.Random(0))) == "en"
  for text in (
    "for (i = 0; i < n; i++) { a[i] = b[i]; }",
    "x = [1, 2, 3]\ny = {k: v}",
    "12.5 88.1 97.0",
    "Hi",
    "",
  ):
    assert language.judge([text])[0] == ("language: und", "und"), text
  assert Language(Options(keep=("und",))).judge([""])[0] == ("", "und")


def test_confidence_decides_what_is_undetermined():
  text = "El perro corre por la calle"
  tags = [
    Language(Options(min_confidence=at)).tag(text) for at in (0.0, 0.5, 1.0)
  ]
  assert tags == ["es", "es", "und"]


def test_a_long_text_is_read_in_pieces_from_its_beginning_to_its_end():
  step = Language(Options(max_chars=40))
  read = []

  class Model:
    def classify(self, text):
      read.append(text)
      return "en", 1.0

  step._identifier = Model()
  text = "".join(f"{i:04}" for i in range(250))
  step.judge([text, text[:40], text[:41]])
  assert read[0].split("\n") == [
    text[:10],
    text[330:340],
    text[660:670],
    text[-10:],
  ]
  assert read[1] == text[:40]
  assert read[2].split("\n") == [text[a : a + 10] for a in (0, 10, 21, 31)]
  # The tag of a mixture is not that of its first page.
  mixed = TEXTS["en"] * 10 + TEXTS["de"] * 100
  found = [
    Language(Options(("de",), max_chars=n)).tag(mixed) for n in (0, 2000)
  ]
  assert found == ["de", "de"]


def test_facts_name_the_number_of_languages(language):
  assert language.facts() == {"languages": len(set(language._model().labels))}
  assert language.facts()["languages"] > 90  # Lui and Baldwin have 97


def test_impossible_options_are_refused():
  for values, part in (
    ({"keep": ()}, "keep is empty and would drop every text"),
    ({"keep": ("English",)}, "keep has 'English', which is not a tag of ISO"),
    ({"min_confidence": 1.5}, "min_confidence=1.5 must be a share"),
    ({"max_chars": -1}, "max_chars=-1 must be at least 0"),
  ):
    with pytest.raises(UserError) as caught:
      Options(**values)
    assert str(caught.value).startswith(f"data.opts.language.{part}")
  # Known only once the model is read; `facts` reads it.
  with pytest.raises(UserError) as caught:
    Language(Options(keep=("en", "ze"))).facts()
  assert "data.opts.language.keep has 'ze', which is not one of the" in (
    str(caught.value)
  )


def test_a_missing_package_is_named_at_once(monkeypatch):
  monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
  with pytest.raises(UserError, match="needs py3langid; pip install py3langid"):
    Language(Options())
