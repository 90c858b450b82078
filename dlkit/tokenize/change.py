"""The commands `extend` and `prune`: a tokenizer's file, and a network's, with other tokens."""

from collections.abc import Callable, Sequence
from pathlib import Path

from dlkit.core.errors import DlkitError
from dlkit.core.io import text as reading
from dlkit.core.io.files import whole_file
from dlkit.core.progress import log
from dlkit.tokenize.config import FileFormat
from dlkit.tokenize.convert import WRITERS
from dlkit.tokenize.extend import Change, extend
from dlkit.tokenize.infer import format_token, load
from dlkit.tokenize.model import Tokenizer
from dlkit.tokenize.proof import compare, written
from dlkit.tokenize.prune import count_usage, prune

MOST_NAMED = 5  # tokens in a line


def extend_file(
    model: str,
    add: Sequence[str],
    special: Sequence[str],
    file: Path | None,
    out: Path,
    network: Path | None,
    to: FileFormat,
    force: bool,
) -> list[Path]:
    """Write a tokenizer with more tokens, and its network; returns the paths."""
    targets = check_targets(out, network, force)
    tokens = [*add, *(read_tokens(file) if file else ())]
    if not tokens and not special:
        raise DlkitError("no tokens; give --add, --special or --file")

    def change(tokenizer: Tokenizer) -> Change:
        changed = extend(tokenizer, tokens, special)
        new = len(changed.tokenizer.names) - len(tokenizer.names)
        log(f"{counted(new, 'token')} added, {len(changed.tokenizer.names)} in all")
        if network is not None:
            log("the row of a new token in the network is the mean of the rows of its pieces")
        if changed.known:
            some = ", ".join(map(format_token, changed.known[:MOST_NAMED]))
            more = len(changed.known) - MOST_NAMED
            rest = f" and {more} more" if more > 0 else ""
            log(
                f"{counted(len(changed.known), 'token')} not added, one token already: {some}{rest}"
            )
        return changed

    return write_change(model, change, targets, network, to)


def prune_file(
    model: str,
    corpus: Sequence[str],
    size: int | None,
    out: Path,
    network: Path | None,
    to: FileFormat,
    errors: str,
    workers: int,
    force: bool,
) -> list[Path]:
    """Write a tokenizer with the tokens of a corpus, and its network; returns the paths."""
    targets = check_targets(out, network, force)
    reading.check_files(corpus)

    def change(tokenizer: Tokenizer) -> Change:
        usage = count_usage(corpus, tokenizer, errors, workers)
        changed = prune(tokenizer, usage, size)
        kept = {old[0] for old in changed.origins}
        lost = sum(count for i, count in usage.counts.items() if i not in kept)
        read = f"{counted(usage.lines, 'line')} with {counted(usage.counts.total(), 'token')}"
        log(f"{len(kept)} of {len(tokenizer.names)} tokens kept")
        log(f"{read}, of which {lost} are now encoded otherwise")
        return changed

    return write_change(model, change, targets, network, to)


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def read_tokens(path: Path) -> list[str]:
    """The tokens of a file, one in each line that is not empty."""
    return [line for lines in reading.line_batches(str(path), 1000) for line in lines if line]


def check_targets(out: Path, network: Path | None, force: bool) -> list[Path]:
    """The files to write: the tokenizer, and the network beside it. Raises DlkitError if one is."""
    targets = [out]
    if network is not None:
        targets.append(out.with_suffix("" if network.is_dir() else ".safetensors"))
    for number, target in enumerate(targets):
        if target.is_dir() or target in targets[:number]:
            raise DlkitError("is a folder, or the network's; give another --out", target)
        if target.exists() and not force:
            raise DlkitError("exists already; give another --out, or --force", target)
    return targets


def write_change(
    model: str,
    change: Callable[[Tokenizer], Change],
    targets: list[Path],
    network: Path | None,
    to: FileFormat,
) -> list[Path]:
    """Write the changed tokenizer and network."""
    if to == FileFormat.gpt2:
        raise DlkitError("vocab.json and merges.txt cannot hold all of it; give --to huggingface")
    tokenizer = load(model)
    changed = change(tokenizer)
    contents = WRITERS[to](changed.tokenizer)
    if (theirs := written(to, contents)) is not None:
        compare(changed.tokenizer, theirs, "written")
    if network is not None:
        from dlkit.tokenize.network_rows import change_checkpoint

        change_checkpoint(network, tokenizer, changed, targets[1])
    with whole_file(targets[0]) as partial:
        partial.write_bytes(contents[0])
    return targets
