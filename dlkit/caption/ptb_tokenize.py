"""Captions as the words that their metrics count.

As in the COCO caption evaluation (Chen et al. 2015, section 3.1): lower case, cut by the rules of
the Penn Treebank as Stanford's tokenizer applies them, and without punctuation.
"""

import re

# What the evaluation leaves out, brackets included; other symbols are words.
PUNCTUATION = {*"'\"`“”‘.?!,:;-…(){}[]", "''", "``"}

# Titles and the like, whose period belongs to them.
ABBREVIATIONS = ("mr", "mrs", "ms", "dr", "st", "jr", "sr", "vs", "mt", "inc", "co", "corp")

JOINED = {
    "cannot": "can not", "gonna": "gon na", "gotta": "got ta", "wanna": "wan na",
    "lemme": "lem me", "gimme": "gim me",
}  # fmt: skip

TOKEN = re.compile(
    rf"""
    (?:[a-z]\.){{2,}}                             # u.s.
    | (?:{"|".join(ABBREVIATIONS)})\.(?=\s+\S)
    | '(?:s|m|d|re|ve|ll)(?!\w)                   # the ends of contractions
    | n't(?!\w)
    | 'n' | '\d\ds | o'\w+ | ma'am                # rock 'n' roll; the '90s; o'clock
    | \d+(?:[.,:/]\d+)*\w*(?:-\w+)*               # 1,000; 4x4; 12-year-old
    | \w+?(?=n't(?!\w))                           # do|n't
    | (?:\w+\.)+(?:com|org|net)\b
    | \w+(?:[-&/]\w+)*                            # t-shirt; and/or
    | \.\.+ | --+ | ''
    | \S
    """,
    re.VERBOSE,
)


def words(caption: str) -> list[str]:
    """The words of a caption."""
    text = caption.lower().replace("’", "'")
    found: list[str] = []
    for token in TOKEN.findall(text):
        found += JOINED.get(token, token).split()
    return [word for word in found if word not in PUNCTUATION and word.strip(".-")]
