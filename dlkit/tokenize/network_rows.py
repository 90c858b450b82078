"""The rows of a network for the tokens of its vocabulary, moved along when that changes.

A network has a row of its embedding, of its output layer and of the output's bias for each token.
Rows of tokens that stay are the same bits. The row of a new token is the mean of those of the
pieces that its text was before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlkit.core.errors import DlkitError
from dlkit.core.store import checkpoint
from dlkit.core.store.checkpoint import STEPS
from dlkit.tokenize.extend import Change, same_tokenizer
from dlkit.tokenize.model import Tokenizer
from dlkit.tokenize.vocabulary import SPECIAL_NAMES, DecoderVocabulary

if TYPE_CHECKING:
    from torch import Tensor

# The tensors that have a row for each token, in all architectures of text models.
ROWS = (
    "embedding.weight",
    "head.weight",
    "head.bias",
    "direct.weight",
    "bias",
    "output_bias",
)
# The settings that the header of a text model has, by task.
SETTINGS = {
    "lm-generate": {"network", "tokenizer", "parse_special", "begin", "ends"},
    "translate": {"network", "tokenizer", "lower", "context", "longest"},
    "caption": {"network", "tokenizer", "keep_case", "longest"},
}


def change_checkpoint(path: Path, tokenizer: Tokenizer, change: Change, out: Path) -> None:
    """Write the network at `path`, whose vocabulary is `tokenizer`, with the changed one.

    Raises DlkitError for a network without a row for each token, or with another tokenizer.
    """
    header, stored = checkpoint.load_stored(path)
    settings = header.settings
    if header.task not in SETTINGS or not isinstance(settings.get("network"), dict):
        raise DlkitError(
            f"a {header.arch} of `dlkit {header.task}` has no rows for tokens; give a neural model "
            f"of {', '.join(SETTINGS)}",
            path,
        )
    if unknown := set(settings) - SETTINGS[header.task]:
        raise DlkitError(f"its setting {min(unknown)} is not known here", path)
    if not same_tokenizer(Tokenizer.from_settings(settings["tokenizer"]), tokenizer):
        raise DlkitError("its tokenizer is another one; give the network itself as MODEL", path)
    network: dict[str, Any] = {**settings["network"]}
    if header.task == "lm-generate":
        rows = language_model_rows(path, network, tokenizer, change)
        network["vocab_size"] = len(rows)
    else:
        rows = decoder_rows(path, network, tokenizer, change)
        network |= DecoderVocabulary(change.tokenizer).network_settings()
    new_settings = {**settings, "network": network, "tokenizer": change.tokenizer.to_settings()}
    new_settings |= moved_ids(path, settings, change)
    moved = move_rows(path, stored, settings["network"]["vocab_size"], rows)
    changes = f"vocabulary of {path.name} changed from {tokenizer_size(tokenizer)} tokens"
    card = {**header.card, "changes": f"{changes} to {tokenizer_size(change.tokenizer)}"}
    # The scores are those of the network as it was.
    new_header = replace(header, settings=new_settings, metrics={}, card=card)
    checkpoint.save_stored(out, moved, new_header)


def tokenizer_size(tokenizer: Tokenizer) -> int:
    """The number of ids from 0 to the largest one."""
    return max(tokenizer.names) + 1


def language_model_rows(
    path: Path, network: Mapping[str, Any], tokenizer: Tokenizer, change: Change
) -> list[list[int]]:
    """The rows that each new row is the mean of, for a language model.

    Rows after those of the tokenizer are of special tokens that it lacks; they stay the last ones.
    """
    size, rows = tokenizer_size(tokenizer), network["vocab_size"]
    if size > rows:
        raise different_sizes(path, size, rows)
    if size < rows and set(change.tokenizer.special) - set(tokenizer.special):
        raise DlkitError(
            f"it has {rows - size} rows of special tokens that the tokenizer lacks, so that no "
            "special tokens can be added",
            path,
        )
    return [*change.origins, *([i] for i in range(size, rows))]


def decoder_rows(
    path: Path, network: Mapping[str, Any], tokenizer: Tokenizer, change: Change
) -> list[list[int]]:
    """The rows that each new row is the mean of, for a network with a `DecoderVocabulary`."""
    size = DecoderVocabulary(tokenizer).size
    if size != network["vocab_size"]:
        raise different_sizes(path, size, network["vocab_size"])
    vocabulary = DecoderVocabulary(change.tokenizer)
    rows = [*change.origins, *([0] for _ in range(len(change.origins), vocabulary.size))]
    for role in SPECIAL_NAMES:
        rows[getattr(vocabulary, role)] = [network[role]]
    return rows


def different_sizes(path: Path, tokens: int, rows: int) -> DlkitError:
    return DlkitError(
        f"its tokenizer has {tokens} tokens, but its network {rows}; they belong to different "
        "models",
        path,
    )


def moved_ids(path: Path, settings: Mapping[str, Any], change: Change) -> dict[str, Any]:
    """The ids of tokens in the header of a language model, as they are now."""
    ids: dict[int, int] = {}
    for new, old in enumerate(change.origins):
        if len(old) == 1:
            ids.setdefault(old[0], new)
    try:
        found: dict[str, Any] = {}
        if settings.get("begin") is not None:
            found["begin"] = ids[settings["begin"]]
        if "ends" in settings:
            found["ends"] = [ids[i] for i in settings["ends"]]
        return found
    except KeyError as error:
        raise DlkitError(f"the token {error} that begins or ends texts is gone", path) from error


def move_rows(
    path: Path,
    stored: Mapping[str, "Tensor"],
    size: int,
    origins: Sequence[Sequence[int]],
    names: Sequence[str] = ROWS,
) -> dict[str, "Tensor"]:
    """The tensors with rows for the new tokens; one of integers keeps its form."""
    moved = dict(stored)
    for name in names:
        if name not in stored:
            continue
        if len(stored[name]) != size:
            raise DlkitError(f"{name} has {len(stored[name])} rows, not {size}", path)
        moved[name] = stored[name][[old[0] if old else 0 for old in origins]]
        steps = stored.get(name + STEPS)
        if steps is not None:
            moved[name + STEPS] = steps[[old[0] if old else 0 for old in origins]]
        for new, old in enumerate(origins):
            if len(old) == 1:
                continue
            chosen = list(old) or list(range(size))
            rows = stored[name][chosen]
            if steps is None:
                moved[name][new] = rows.float().mean(0).to(rows.dtype)
            else:
                mean = checkpoint.dequantize_int8(rows, steps[chosen]).mean(0, keepdim=True)
                counts, step = checkpoint.quantize_int8(mean)
                moved[name][new], moved[name + STEPS][new] = counts[0], step[0]
    return moved
