"""Regular expressions of Oniguruma (Ruby's), written for the module `regex`.

The two read some constructs differently; one without the same meaning in both is named.
"""

import re
from functools import cache
from typing import TYPE_CHECKING

from dlkit.tokenize.pipeline.fields import NotUnderstood
from dlkit.tokenize.pipeline.text import Span
from dlkit.tokenize.unicode_tables import hide_new_characters

if TYPE_CHECKING:
    pass

SPACE = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
WORD = r"\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\xb2\xb3\xb9\xbc-\xbe"
CLASSES = {"s": SPACE, "d": r"\p{Nd}", "w": WORD, "h": "0-9a-fA-F"}
OUTSIDE = {
    "A": r"\A",
    "z": r"\Z",
    "Z": r"(?=\n?\Z)",
    "R": r"(?>\r\n|[\n-\r\x85\u2028\u2029])",
    "b": rf"(?:(?<=[{WORD}])(?![{WORD}])|(?<![{WORD}])(?=[{WORD}]))",
    "B": rf"(?:(?<=[{WORD}])(?=[{WORD}])|(?<![{WORD}])(?![{WORD}]))",
}
LETTERS = {"t": r"\t", "n": r"\n", "r": r"\r", "f": r"\f", "v": r"\v", "a": r"\a", "e": r"\x1b"}
# General categories and the scripts that both know by the same name.
PROPERTY = re.compile(
    r"\^?(L|Lu|Ll|Lt|Lm|Lo|M|Mn|Mc|Me|N|Nd|Nl|No|P|Pc|Pd|Ps|Pe|Pi|Pf|Po|S|Sm|Sc|Sk|So|Z|Zs|Zl|Zp"
    r"|Han|Hiragana|Katakana|Hangul|Latin|Greek|Cyrillic|Arabic|Hebrew|Thai|Devanagari|Bengali"
    r"|Letter|Number|Mark|Punctuation|Symbol|Separator)$"
)
# Letters that together are the folded form of one character, as ss of ß.
LONG_FOLDS = re.compile(r"ss|f[fil]|st|[^\x00-\x7f]", re.IGNORECASE)


@cache
def translate(pattern: str) -> str:
    """The pattern for `regex`. Raises NotUnderstood, with the construct's name."""
    translated = Translator(pattern).run()
    import regex

    try:
        regex.compile(translated)
    except regex.error as error:
        raise NotUnderstood(f"the pattern {pattern!r} ({error})") from error
    return translated


class Translator:
    """A pass over the pattern."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0
        self.folds = [False]  # whether case is ignored, in each open group

    def fail(self, construct: str) -> NotUnderstood:
        return NotUnderstood(f"{construct} in the pattern {self.pattern!r}")

    def next(self) -> str:
        if self.at >= len(self.pattern):
            raise self.fail("an open end")
        self.at += 1
        return self.pattern[self.at - 1]

    def take(self, text: str) -> bool:
        found = self.pattern.startswith(text, self.at)
        self.at += len(text) if found else 0
        return found

    def run(self) -> str:
        out: list[str] = []
        atom = 0  # where the last atom begins in `out`, for a second quantifier
        opened: list[int] = []
        literals = ""
        while self.at < len(self.pattern):
            char = self.next()
            literals = literals + char if char.isalpha() and self.folds[-1] else ""
            if LONG_FOLDS.search(literals):
                raise self.fail(f"(?i:{literals})")
            if char in "*+?{":
                if char == "{" and not re.match(r"\d+(,\d*)?\}|,\d+\}", self.rest()):
                    atom = len(out)
                    out.append(r"\{")
                    continue
                self.quantify(out, atom, char)
                continue
            if char == "(":
                opened.append(len(out))
                out.append(self.group())
                continue
            if char == ")":
                if not opened:
                    raise self.fail(")")
                atom = opened.pop()
                self.folds.pop()
                out.append(char)
                continue
            if char != "|":
                atom = len(out)
            out.append(self.atom(char))
        if opened:
            raise self.fail("(")
        return "".join(out)

    def rest(self) -> str:
        return self.pattern[self.at :]

    def quantify(self, out: list[str], atom: int, char: str) -> None:
        if atom >= len(out) or out[-1] == "|":
            raise self.fail(char)
        if char != "{":
            out.append(char + (self.next() if self.rest()[:1] in {"?", "+"} else ""))
            return
        end = self.pattern.index("}", self.at) + 1
        counts = "{" + self.pattern[self.at : end]
        self.at = end
        if counts.startswith("{,"):
            counts = "{0" + counts[1:]
        if self.rest()[:1] == "?":
            if "," not in counts:
                raise self.fail(f"{counts}?")
            counts += self.next()
        if self.rest()[:1] in {"+", "*"}:  # not possessive: the repetition is repeated
            out.insert(atom, "(?:")
            out.append(f"{counts})")
        else:
            out.append(counts)

    def group(self) -> str:
        fold = self.folds[-1]
        if not self.rest().startswith("?"):
            self.folds.append(fold)
            return "(?:"  # a capture, which nothing refers to
        for kind in ("?:", "?=", "?!", "?<=", "?<!", "?>"):
            if self.take(kind):
                self.folds.append(fold)
                return f"({kind}"
        flags = re.match(r"\?([im]*)(-[im]*)?(:|\))", self.rest())
        if flags is None or not (flags[1] or flags[2]):
            raise self.fail(f"({self.rest()[:3]}")
        if flags[3] == ")":
            raise self.fail(f"({flags[0]}")
        self.at += flags.end()
        self.folds.append("i" in flags[1] or (fold and "i" not in (flags[2] or "")))
        return "(" + flags[0].replace("m", "s")

    def atom(self, char: str) -> str:
        if char == "[":
            return self.char_class()
        if char == "^":
            return r"(?:\A|(?<=\n)(?!\Z))"
        if char == "$":
            return r"(?=\n|\Z)"
        if char == ".":
            return "."
        if char != "\\":
            return char if char == "|" else re.escape(char)
        char = self.next()
        if char.lower() in CLASSES:
            return f"[{'^' if char.isupper() else ''}{CLASSES[char.lower()]}]"
        return OUTSIDE.get(char) or self.escape(char)

    def escape(self, char: str) -> str:
        """The text of an escape that means the same in a class and outside."""
        if char in "pP":
            name = re.match(r"\{([^}]*)\}", self.rest())
            if name is None or not PROPERTY.match(name[1]):
                raise self.fail(f"\\{char}{name[0] if name else ''}")
            self.at += name.end()
            negated = (char == "P") != name[1].startswith("^")
            return rf"\{'P' if negated else 'p'}{{{name[1].removeprefix('^')}}}"
        if char in LETTERS:
            return LETTERS[char]
        for form in (r"x\{([0-9a-fA-F]{1,6})\}", r"x([0-9a-fA-F]{2})", r"u([0-9a-fA-F]{4})"):
            code = re.match(form, self.pattern[self.at - 1 :])
            if code is not None:
                self.at += code.end() - 1
                if form.startswith("x([") and int(code[1], 16) > 0x7F:
                    break  # a byte there
                return rf"\U{int(code[1], 16):08x}"
        if char.isalnum():
            raise self.fail(f"\\{char}")
        return re.escape(char)

    def char_class(self) -> str:
        r"""A class in brackets; `[a&&[^b]]` becomes `(?:(?=[a])(?![b])...)`."""
        negated = self.take("^")
        items: list[str] = []
        sides: list[str] = []  # the operands of &&, as classes
        first = True
        while True:
            if self.take("&&"):
                sides.append(self.union(items))
                items, first = [], False
                continue
            if self.take("[:"):
                raise self.fail(re.match(r"[^\]]*\]?", self.pattern[self.at - 2 :])[0])  # type: ignore[index]
            char = self.next()
            if char == "]" and not first:
                break
            first = False
            if char == "[":
                inner = self.char_class()
                items.append(inner)
                continue
            if char == "\\":
                char = self.next()
                if char.lower() in CLASSES:
                    if char.isupper():
                        items.append(f"[^{CLASSES[char.lower()]}]")
                    else:
                        items.append(CLASSES[char])
                    continue
                if char in "RXbBAzZGKyYNO":
                    raise self.fail(f"[\\{char}]")
                item = self.escape(char)
                if char in "pP":
                    items.append(item)
                    continue
            else:
                item = re.escape(char)
            if self.rest().startswith("-") and not self.rest().startswith(("-]", "-[", "-&&")):
                self.at += 1
                last = self.next()
                if last == "\\":
                    last = self.next()
                    if last.lower() in CLASSES or last in "pP":
                        raise self.fail(f"-\\{last}")
                    item += "-" + self.escape(last)
                else:
                    item += "-" + re.escape(last)
            items.append(item)
        sides.append(self.union(items))
        if self.folds[-1] and len(sides) > 1:
            raise self.fail("&& in (?i:")
        one = "".join(f"(?={side})" for side in sides[:-1]) + sides[-1]
        if not negated:
            return one if len(sides) == 1 else f"(?:{one})"
        if len(sides) == 1 and one.startswith("[") and not one.startswith("[^"):
            return f"[^{one[1:]}"
        return rf"(?:(?!{one})(?s:.))"

    def union(self, items: list[str]) -> str:
        """One class of the items; those that are classes themselves are alternatives."""
        if not items:
            raise self.fail("an empty class")
        plain = [item for item in items if not item.startswith(("[", "(?"))]
        nested = [item for item in items if item.startswith(("[", "(?"))]
        if not nested:
            return f"[{''.join(plain)}]"
        parts = [*nested, *([f"[{''.join(plain)}]"] if plain else [])]
        return parts[0] if len(parts) == 1 else f"(?:{'|'.join(parts)})"


class Pattern:
    """A compiled pattern of Oniguruma, or a literal text."""

    def __init__(self, pattern: str, literal: bool = False) -> None:
        import regex

        source = re.escape(pattern) if literal else translate(pattern)
        self.compiled: regex.Pattern[str] = regex.compile(source)

    def matches(self, text: str) -> list[Span]:
        """The matches, without an empty one right after another."""
        found: list[Span] = []
        for match in self.compiled.finditer(hide_new_characters(text)):
            start, end = match.span()
            if start == end and found and found[-1][1] == start:
                continue
            found.append((start, end))
        return found
