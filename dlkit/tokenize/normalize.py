"""Normalization of text before it is tokenized: Unicode forms, case, accents."""

from collections.abc import Sequence

from dlkit.core.errors import DlkitError
from dlkit.tokenize import unicode_tables as tables

# The last three are BERT's: its other two steps are `lower`, and NFD before strip-nonspacing.
STEPS = ("nfc", "nfkc", "lower", "strip-accents", "clean", "space-cjk", "strip-nonspacing")

# Hugging Face's StripAccents removes all marks, BERT's switch strip_accents only Mn.
MARKS = {"strip-accents": tables.MARKS, "strip-nonspacing": tables.NONSPACING}


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
            text = tables.lower(text)
        elif step == "clean":
            text = tables.class_for(tables.CONTROL, text).sub("", text).translate(tables.TO_BLANK)
        elif text.isascii():
            continue
        elif step in MARKS:
            decomposed = tables.normalize_form("NFD", text)
            text = tables.class_for(MARKS[step], decomposed).sub("", decomposed)
        elif step == "space-cjk":
            text = tables.class_for(tables.CHINESE, text).sub(r" \g<0> ", text)
        else:
            text = tables.normalize_form(step.upper(), text)
    return text


def normalize_lines(text: str, steps: Sequence[str]) -> str:
    """Normalize each line by itself: the line feeds stay."""
    if "clean" not in steps:
        return normalize(text, steps)
    return "\n".join(normalize(line, steps) for line in text.split("\n"))


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
        while end < len(text) and not text[end].isascii():
            if not tables.combining_class(text[end]):
                longer = normalize(text[start : end + 1], steps)
                if longer == normalize(text[start:end], steps) + normalize(text[end], steps):
                    break
            end += 1
        here = normalize(text[start:end], steps)
        parts.append(here)
        spans += [(start, end)] * len(here)
        start = end
    return "".join(parts), spans
