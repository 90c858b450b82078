"""Captions drawn below images."""

from PIL import ImageFont

from dlkit.caption.draw import wrap_text


def test_sentences_are_wrapped_between_words() -> None:
    font = ImageFont.load_default(12)
    text = "a man in a red shirt is climbing a steep rock above the sea"
    lines = list(wrap_text(text, 120, font))
    assert " ".join(lines) == text
    assert len(lines) > 2
    assert all(font.getlength(line) <= 120 for line in lines)
    assert list(wrap_text("incomprehensibilities", 10, font)) == ["incomprehensibilities"]
