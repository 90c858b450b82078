"""WordPiece encoding of a word: from the left, always the longest token that matches.

Schuster, Nakajima: Japanese and Korean Voice Search, 2012; as BERT does it (Devlin et al. 2019).
"""

from collections.abc import Mapping

LONGEST_WORD = 100  # characters; to BERT a longer word is unknown


def longest_match(
    word: str, vocab: Mapping[str, int], prefix: str, longest: int
) -> list[int] | None:
    """The ids of the word's tokens; None if a part of it matches no token, or it is too long.

    Tokens inside the word begin with `prefix`; no token is longer than `longest` characters.
    """
    if len(word) > LONGEST_WORD:
        return None
    ids = []
    start = 0
    while start < len(word):
        before = prefix if start else ""
        for end in range(min(len(word), start + longest), start, -1):
            token = vocab.get(before + word[start:end])
            if token is not None:
                ids.append(token)
                start = end
                break
        else:
            return None
    return ids
