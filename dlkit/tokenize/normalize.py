"""Normalization of text before it is tokenized: Unicode forms, case, accents."""

import unicodedata
from collections.abc import Sequence

from dlkit.core.errors import DlkitError

STEPS = ("nfc", "nfkc", "lower", "strip-accents")


def parse_steps(value: str) -> list[str]:
    """The normalization steps in a comma-separated option."""
    steps = [step.strip() for step in value.split(",") if step.strip() not in {"", "none"}]
    for step in steps:
        if step not in STEPS:
            raise DlkitError(
                f"--normalize: unknown step {step!r}; choose from none, {', '.join(STEPS)}"
            )
    return steps


def normalize(text: str, steps: Sequence[str]) -> str:
    """Apply the steps, of STEPS, in their order."""
    for step in steps:
        if step == "lower":
            # Without the special case of a final sigma, as in Hugging Face tokenizers.
            text = text.replace("Σ", "σ").lower()
        elif text.isascii():
            continue
        elif step == "strip-accents":
            decomposed = unicodedata.normalize("NFD", text)
            # All marks, as in Hugging Face tokenizers, not only accents (Mn).
            text = "".join(c for c in decomposed if unicodedata.category(c)[0] != "M")
        else:
            text = unicodedata.normalize("NFC" if step == "nfc" else "NFKC", text)
    return text


def normalize_aligned(text: str, steps: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """The normalized text, and for each of its characters the span of `text` it comes from.

    A span is the shortest stretch that can be normalized alone, such as a letter with its accents.
    """
    if not steps:
        return text, [(i, i + 1) for i in range(len(text))]
    parts: list[str] = []
    spans: list[tuple[int, int]] = []
    start = 0
    while start < len(text):
        end = start + 1
        here = normalize(text[start:end], steps)
        while end < len(text) and not text[end].isascii():
            longer = normalize(text[start : end + 1], steps)
            if longer == here + normalize(text[end], steps) and not unicodedata.combining(
                text[end]
            ):
                break
            end, here = end + 1, longer
        parts.append(here)
        spans += [(start, end)] * len(here)
        start = end
    return "".join(parts), spans
