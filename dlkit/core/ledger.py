"""Accounts of a reader: the used, the skipped, and where. Loads no torch."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dlkit.core.errors import DlkitError
from dlkit.core.progress import log

SKIPPED_FILE = "skipped.csv"
MAX_REASONS = 3  # that a summary names, the most frequent first
MAX_PLACES = 3  # that an error names


@dataclass
class Ledger:
    """Counts of the used and the skipped things of each kind: "images", "boxes", "rows".

    Each thing that a reader finds is either used or skipped, so that the two add up. `notes` are
    what else a user must know of those used, with their places. `name` is that of the split or
    file: it begins the lines of the summary.
    """

    name: str = ""
    used: Counter[str] = field(default_factory=Counter)
    places: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)

    def use(self, kind: str, count: int = 1) -> None:
        """Count things that are used."""
        self.used[kind] += count

    def skip(self, kind: str, reason: str, place: str) -> None:
        """Count one that is skipped, for a reason, at a place: a path, or a path and a line."""
        self.places.setdefault(kind, {}).setdefault(reason, []).append(place)

    def drop(self, kind: str, reason: str, place: str) -> None:
        """Skip one that was counted as used."""
        self.used[kind] -= 1
        self.skip(kind, reason, place)

    def rename(self, kind: str, name: str) -> None:
        """Count the things of a kind as those of another."""
        if kind in self.used:
            self.used[name] += self.used.pop(kind)
        for reason, places in self.places.pop(kind, {}).items():
            self.places.setdefault(name, {}).setdefault(reason, []).extend(places)

    def note(self, text: str, place: str) -> None:
        """Note something about one that is used: "images whose annotations are scaled"."""
        self.notes.setdefault(text, []).append(place)

    def skipped(self, kind: str) -> int:
        """The number of skipped things of a kind."""
        return sum(map(len, self.places.get(kind, {}).values()))

    def seen(self, kind: str) -> int:
        """The number of things of a kind."""
        return self.used[kind] + self.skipped(kind)

    def share(self, kind: str) -> float:
        """The skipped share of a kind, from 0 to 1; 0 where there are none."""
        return self.skipped(kind) / max(self.seen(kind), 1)

    def reasons(self, kind: str) -> list[tuple[str, list[str]]]:
        """The reasons for which some of a kind are skipped with their places, most first."""
        return sorted(self.places.get(kind, {}).items(), key=lambda item: -len(item[1]))

    def summary(self, details: Mapping[str, str] | None = None) -> list[str]:
        """Lines such as "train: 4 images, 8 boxes of 2 labels" and those skipped of each kind.

        `details` follow the count of a kind, such as "of 2 labels".
        """
        counts = [
            f"{self.used[kind]:,} {kind}"
            + (f" {details[kind]}" if details and kind in details else "")
            for kind in self.kinds()
        ]
        prefix = f"{self.name}: " if self.name else ""
        lines = [prefix + (", ".join(counts) or "nothing")]
        for kind in self.places:
            reasons = self.reasons(kind)
            named = [f"{len(places):,} {reason}" for reason, places in reasons[:MAX_REASONS]]
            if len(reasons) > MAX_REASONS:
                rest = sum(len(places) for _, places in reasons[MAX_REASONS:])
                named.append(f"{rest:,} for {len(reasons) - MAX_REASONS} more reasons")
            first = reasons[0][1][0]
            lines.append(
                f"{prefix}skipped {self.skipped(kind):,} of {self.seen(kind):,} {kind}"
                f" ({percent(self.share(kind))}): {', '.join(named)}; the first: {first}"
            )
        for text, places in self.notes.items():
            lines.append(f"{prefix}{len(places):,} {text}; the first: {places[0]}")
        return lines

    def report(self, details: Mapping[str, str] | None = None) -> None:
        """Print the summary on stderr."""
        for line in self.summary(details):
            log(line)

    def check(self, allowed: float, path: Path) -> None:
        """Raise DlkitError where more than the allowed share of a kind is skipped."""
        for kind in self.places:
            if self.share(kind) > allowed:
                reason, places = self.reasons(kind)[0]
                raise DlkitError(
                    f"{self.skipped(kind):,} of {self.seen(kind):,} {kind}"
                    + (f" of {self.name!r}" if self.name else "")
                    + f" cannot be used ({percent(self.share(kind))}), most often: {reason}"
                    f" ({', '.join(places[:MAX_PLACES])}); correct them, or allow it with"
                    f" --allow-skipped {shown_share(self.share(kind))}",
                    path,
                )

    def require(self, kind: str, path: Path) -> None:
        """Raise DlkitError with the most frequent reason where nothing of a kind is left."""
        if self.used[kind]:
            return
        of_split = f" of {self.name!r}" if self.name else ""
        if not self.skipped(kind):
            raise DlkitError(f"no {kind}{of_split}", path)
        reason, places = self.reasons(kind)[0]
        raise DlkitError(
            f"none of the {self.seen(kind):,} {kind}{of_split} can be used, most often:"
            f" {reason} ({', '.join(places[:MAX_PLACES])})",
            path,
        )

    def rows(self) -> Iterator[tuple[str, str, str, str]]:
        """Name, kind, reason and place of everything skipped, as in skipped.csv."""
        for kind, reasons in self.places.items():
            for reason, places in reasons.items():
                for place in places:
                    yield self.name, kind, reason, place

    def kinds(self) -> list[str]:
        """The kinds of things that were seen."""
        return list(dict.fromkeys([*self.used, *self.places]))


def percent(share: float) -> str:
    """A share as a percentage; below one percent with a digit more."""
    return f"{100 * share:.0f} %" if share >= 0.01 or not share else f"{100 * share:.1g} %"


def shown_share(share: float) -> str:
    """The least share of two digits that allows this one."""
    return f"{min(1.0, int(share * 100 + 0.999999) / 100):g}"


def write_skipped(ledgers: Iterable[Ledger], file: Path) -> None:
    """Write what the ledgers skipped as a CSV with the columns split, kind, reason and place."""
    import csv

    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["split", "kind", "reason", "place"])
        for ledger in ledgers:
            writer.writerows(ledger.rows())
