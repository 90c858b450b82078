"""The architectures of captioners by name."""

from typing import Any, NotRequired

from dlkit.caption.models.attend import Attend
from dlkit.caption.models.captioner import Captioner
from dlkit.caption.models.nic import NIC
from dlkit.caption.models.transformer import Transformer
from dlkit.core.errors import DlkitError
from dlkit.core.store import schema
from dlkit.core.store.checkpoint import Header, TextModelSettings

ARCHITECTURES: dict[str, type[Captioner]] = {
    "nic": NIC,
    "attend": Attend,
    "transformer": Transformer,
}
# The arguments of each class in addition to those of `Captioner`.
SETTINGS: dict[str, tuple[str, ...]] = {
    "nic": ("width", "layers", "dropout"),
    "attend": ("width", "dropout", "hard_attention"),
    "transformer": ("width", "layers", "encoder_layers", "dropout", "heads", "ffn_width",
                    "pre_norm"),
}  # fmt: skip


class CaptionerSettings(TextModelSettings):
    """The settings in a captioner's header."""

    keep_case: NotRequired[bool]  # whether captions have capital letters and punctuation
    longest: NotRequired[int]  # tokens of the longest caption of the training


def captioner_settings(header: Header) -> CaptionerSettings:
    """The settings of a captioner's header."""
    settings: CaptionerSettings = schema.fit(CaptionerSettings, header.settings)
    return settings


def build(arch: str, **settings: Any) -> Captioner:
    """The untrained network of an architecture; `settings` are its class's arguments."""
    if arch not in ARCHITECTURES:
        raise DlkitError(f"unknown architecture {arch!r}; choose from {', '.join(ARCHITECTURES)}")
    return schema.call(ARCHITECTURES[arch], settings)
