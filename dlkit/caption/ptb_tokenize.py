"""The Penn Treebank tokenizer of the COCO caption evaluation (Chen et al. 2015, section 3.1).

It yields lower-case words without punctuation, by the rules of Stanford's PTBTokenizer.
"""

import re

# Tokens that the evaluation drops, brackets included; other symbols are words.
PUNCTUATION = {*"'\"`“”‘.?!,:;-…(){}[]", "''", "``"}

# Abbreviations whose period is part of the token.
ABBREVIATIONS = ("mr", "mrs", "ms", "dr", "st", "jr", "sr", "vs", "mt", "inc", "co", "corp")

CONTRACTIONS = {
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
    """The words of a caption, in lower case and without punctuation."""
    text = caption.lower().replace("’", "'")
    found: list[str] = []
    for token in TOKEN.findall(text):
        found += CONTRACTIONS.get(token, token).split()
    return [word for word in found if word not in PUNCTUATION and word.strip(".-")]
