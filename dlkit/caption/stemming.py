"""The English stemmer of Snowball (Porter2, https://snowballstem.org/algorithms/english)."""

import re
from functools import cache

VOWELS = "aeiouy"
DOUBLES = ("bb", "dd", "ff", "gg", "mm", "nn", "pp", "rr", "tt")
BEFORE_LI = "cdeghkmnrt"
# Exceptions to the rules; those of KEPT are checked after the plural is removed.
IRREGULAR = {
    "skis": "ski", "skies": "sky", "dying": "die", "lying": "lie", "tying": "tie", "idly": "idl",
    "gently": "gentl", "ugly": "ugli", "early": "earli", "only": "onli", "singly": "singl",
    **{word: word for word in ("sky", "news", "howe", "atlas", "cosmos", "bias", "andes")},
}  # fmt: skip
KEPT = {"inning", "outing", "canning", "herring", "earring", "proceed", "exceed", "succeed"}

STEP2 = {
    "ational": "ate", "tional": "tion", "enci": "ence", "anci": "ance", "abli": "able",
    "entli": "ent", "ization": "ize", "izer": "ize", "ation": "ate", "ator": "ate", "alism": "al",
    "aliti": "al", "alli": "al", "fulness": "ful", "ousli": "ous", "ousness": "ous",
    "iveness": "ive", "iviti": "ive", "biliti": "ble", "bli": "ble", "fulli": "ful",
    "lessli": "less", "ogi": "og", "li": "",
}  # fmt: skip
STEP3 = {
    "ational": "ate", "tional": "tion", "alize": "al", "icate": "ic", "iciti": "ic", "ical": "ic",
    "ful": "", "ness": "", "ative": "",
}  # fmt: skip
ENDINGS = "al ance ence er ic able ible ant ement ment ent ism ate iti ous ive ize ion"
STEP4 = dict.fromkeys(ENDINGS.split(" "), "")


@cache
def stem(word: str) -> str:
    """The stem of a word in lower case."""
    if len(word) <= 2:
        return word
    if word in IRREGULAR:
        return IRREGULAR[word]
    word = word.removeprefix("'")
    # A consonant y is Y.
    word = re.sub(rf"(^|[{VOWELS}])y", r"\1Y", word)
    first, second = regions(word)
    word = remove_plural(re.sub(r"'s'$|'s$|'$", "", word))
    if word in KEPT:
        return word
    word = remove_past(word, first)
    word = re.sub(rf"(?<=.[^{VOWELS}])[yY]$", "i", word)
    word = replace_ending(word, STEP2, first)
    word = replace_ending(word, STEP3, first, second)
    word = replace_ending(word, STEP4, second)
    return remove_final(word, first, second).lower()


def regions(word: str) -> tuple[int, int]:
    """The starts of R1, after the first consonant after a vowel, and of R2, the next such place."""
    start = next((len(p) for p in ("gener", "commun", "arsen") if word.startswith(p)), None)
    first = region_after(word, 0) if start is None else start
    return first, region_after(word, first)


def region_after(word: str, start: int) -> int:
    found = re.compile(rf"[{VOWELS}][^{VOWELS}]").search(word, start)
    return found.end() if found else len(word)


def remove_plural(word: str) -> str:
    """Step 1a: remove the plural's ending."""
    if word.endswith("sses"):
        return word[:-2]
    if word.endswith(("ied", "ies")):
        return word[:-2] if len(word) > 4 else word[:-1]
    if word.endswith(("us", "ss")):
        return word
    return re.sub(rf"([{VOWELS}].+)s$", r"\1", word)


def remove_past(word: str, first: int) -> str:
    """Step 1b: remove -eed, -ed, -ing and their adverbs."""
    found = re.search(r"(eedly|eed)$", word)
    if found:
        return word[: found.start()] + "ee" if found.start() >= first else word
    found = re.search(rf"(?<=[{VOWELS}])(.*?)(?:ingly|edly|ing|ed)$", word)
    if not found:
        return word
    word = word[: found.end(1)]
    if word.endswith(("at", "bl", "iz")):
        return word + "e"
    if word.endswith(DOUBLES):
        return word[:-1]
    return word + "e" if len(word) <= first and ends_short(word) else word


def ends_short(word: str) -> bool:
    """Whether the word ends in a short syllable."""
    return bool(re.search(rf"[^{VOWELS}][{VOWELS}][^{VOWELS}wxY]$|^[{VOWELS}][^{VOWELS}]$", word))


def remove_final(word: str, first: int, second: int) -> str:
    """Step 5: remove a final e or l."""
    place = len(word) - 1
    silent = place >= second or (place >= first and not ends_short(word[:-1]))
    if (word.endswith("e") and silent) or (word.endswith("ll") and place >= second):
        return word[:-1]
    return word


def replace_ending(word: str, endings: dict[str, str], region: int, second: int = 0) -> str:
    """Replace the longest of these endings that the word has, if it lies in the region."""
    ending = max((e for e in endings if word.endswith(e)), key=len, default=None)
    if ending is None or len(word) - len(ending) < region:
        return word
    before = word[: -len(ending)]
    wrong = {
        "ogi": not before.endswith("l"),
        "li": not before.endswith(tuple(BEFORE_LI)),
        "ion": not before.endswith(("s", "t")),
        "ative": len(before) < second,
    }
    return word if wrong.get(ending, False) else before + endings[ending]
