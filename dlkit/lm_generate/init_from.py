"""The model that training starts from: `--init-from`. Reading our own headers loads no torch."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dlkit.core.errors import DlkitError
from dlkit.core.io.files import is_dir
from dlkit.core.store.checkpoint import Header, read_header
from dlkit.core.store.weights import find
from dlkit.core.train import init_from
from dlkit.lm_generate.config import STREAMED, LmTrainConfig
from dlkit.lm_generate.text_codec import TextCodec

if TYPE_CHECKING:
    from torch import Tensor

# Settings that come from the model that training starts from.
INHERITED = (
    "tokenizer", "vocab_size", "lower", "layers", "width", "heads", "hidden", "positions",
    "tie_embeddings", "direct", "learn_start", "next_sentence",
)  # fmt: skip

# Entries of a header about special tokens, which the trained model has as well.
SPECIAL = ("begin", "ends", "decoder_start", "parse_special", "chat_template", "chat_tokens")


@dataclass(frozen=True)
class Start(init_from.Start[TextCodec]):
    """A model to start from; `weights` if it is one of Hugging Face's.

    `special` are the entries of its header about special tokens.
    """

    weights: "dict[str, Tensor] | None"
    special: dict[str, Any]


def find_start(config: LmTrainConfig) -> tuple[LmTrainConfig, Start]:
    """Read the model that `--init-from` names, and merge its settings with the given ones."""
    name = str(config.init_from)
    header, weights = read_model(name)
    source = init_from.Source(name, header)
    source.check_no_conflict(config, INHERITED)
    if header.arch == "ngram":
        raise DlkitError(
            f"{name} is an n-gram model, which training cannot start from; give a neural one"
        )
    found = source.start(config.dropout, TextCodec.from_settings)
    found.vocabulary.read_special(header.settings)
    network = found.network
    own: dict[str, Any] = {k: network[k] for k in INHERITED if k in network and k != "vocab_size"}
    own["arch"] = header.arch
    context = config.context
    if header.arch not in STREAMED and "context" in network:
        context = context or network["context"]
        if context > network["context"]:
            raise DlkitError(
                f"--context {context} is more than the {network['context']} of {name};"
                " give a smaller one"
            )
    special = {k: header.settings[k] for k in SPECIAL if k in header.settings}
    changed = replace(config, context=context, **own)
    return changed, Start(found.vocabulary, network, weights, special)


def read_model(name: str) -> "tuple[Header, dict[str, Tensor] | None]":
    """Read the header of one of our models, or header and weights of one of Hugging Face's."""
    if name.startswith("hf:") or is_dir(name):
        from dlkit.lm_generate import huggingface

        folder = huggingface.find(name)
        assert folder is not None
        return huggingface.load(folder)
    return read_header(find("lm-generate", name), "lm-generate"), None
