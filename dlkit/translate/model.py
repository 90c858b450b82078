"""The architectures of translators by name."""

from typing import Any, NotRequired

from dlkit.core.errors import DlkitError
from dlkit.core.store import schema
from dlkit.core.store.checkpoint import Header, TextModelSettings
from dlkit.translate.models.attention import AttentionRNN
from dlkit.translate.models.rnn import RNN
from dlkit.translate.models.transformer import Transformer
from dlkit.translate.models.translator import Translator

ARCHITECTURES: dict[str, type[Translator]] = {
    "rnn": RNN,
    "attention": AttentionRNN,
    "transformer": Transformer,
}
# The arguments of each class in addition to those of `Translator`.
SETTINGS: dict[str, tuple[str, ...]] = {
    "rnn": ("width", "layers", "dropout", "cell", "residual", "reverse", "tie_embeddings"),
    "attention": ("width", "layers", "dropout", "cell", "residual", "score", "input_feeding",
                  "tie_embeddings"),
    "transformer": ("width", "layers", "dropout", "heads", "ffn_width", "pre_norm",
                    "tie_embeddings"),
}  # fmt: skip


class TranslatorSettings(TextModelSettings):
    """The settings in a translator's header."""

    lower: NotRequired[bool]  # whether its tokenizer lower-cases texts
    context: NotRequired[int]  # previous turns that are read with a line
    longest: NotRequired[int]  # tokens of the longest source of the training


def translator_settings(header: Header) -> TranslatorSettings:
    """The settings of a translator's header."""
    settings: TranslatorSettings = schema.fit(TranslatorSettings, header.settings)
    return settings


def build(arch: str, **settings: Any) -> Translator:
    """The untrained network of an architecture; `settings` are its class's arguments."""
    if arch not in ARCHITECTURES:
        raise DlkitError(f"unknown architecture {arch!r}; choose from {', '.join(ARCHITECTURES)}")
    return schema.call(ARCHITECTURES[arch], settings)
