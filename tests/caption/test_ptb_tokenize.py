"""The words of captions, against Stanford's PTBTokenizer."""

import pytest

from dlkit.caption.ptb_tokenize import words


# As Stanford's PTBTokenizer 3.4.1 cuts them, less the punctuation of the COCO evaluation.
@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A Dog runs , a cat watches .", "a dog runs a cat watches"),
        ("I don't think it's the dog's ball; they're \"here\"...",
         "i do n't think it 's the dog 's ball they 're here"),
        ("The man can't swim, and he cannot run. He's gonna try.",
         "the man ca n't swim and he can not run he 's gon na try"),
        ("Mr. Smith stands near St. Mary's church in the U.S. today.",
         "mr. smith stands near st. mary 's church in the u.s. today"),
        ('A 12-year-old boy holds a sign: "50% off -- $3.50 (or $1,000)!"',
         "a 12-year-old boy holds a sign 50 % off $ 3.50 or $ 1,000"),
        ("The boys' shirts are red and/or blue.", "the boys shirts are red and/or blue"),
        ("AT&T and rock & roll @ home", "at&t and rock & roll @ home"),
        ("A t-shirt , a 4x4 and a # 7 jersey", "a t-shirt a 4x4 and a # 7 jersey"),
        ("A slip 'n' slide at five o'clock in the '90s",
         "a slip 'n' slide at five o'clock in the '90s"),
        ("A café in München", "a café in münchen"),
        (" ", ""),
    ],
)  # fmt: skip
def test_captions_are_cut_as_the_coco_evaluation_cuts_them(caption: str, expected: str) -> None:
    assert " ".join(words(caption)) == expected
