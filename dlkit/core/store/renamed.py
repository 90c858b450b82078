"""Settings renamed since 0.1, so that checkpoints and runs of that version still load. No torch."""

from typing import Any

RENAMED: dict[str, dict[str, str]] = {
    "*": {
        "average_last": "swa_epochs",
        "clip": "clip_grad",
        "inner": "ffn_width",
        "plain_epochs": "close_mosaic",
        "recolour": "color_jitter",
        "preserve_colour": "preserve_color",
        "colour": "color",
        "neighbours": "neighbors",
        "grey": "gray",
    },
    "classify": {"width": "width_multiplier"},
    "detect": {"scale": "zoom"},
    "gan-sample": {"score": "best_metric"},
    "caption": {
        "hard": "hard_attention",
        "raw": "keep_case",
        "select": "best_metric",
        "val_images": "val_limit",
    },
    "translate": {"select": "best_metric", "val_sentences": "val_limit"},
    "segment": {"scale": "zoom", "width": "width_multiplier"},
}
# Settings whose meaning is now the opposite, such as `untied`, which became `tie_embeddings`.
INVERTED: dict[str, dict[str, str]] = {
    "*": {},
    "detect": {"from_scratch": "pretrained_backbone"},
    "segment": {"from_scratch": "pretrained_backbone"},
    "lm-generate": {"untied": "tie_embeddings"},
    "translate": {"untied": "tie_embeddings"},
}
# Choices renamed, by the setting's name of today.
RENAMED_CHOICES: dict[str, dict[str, str]] = {
    "color": {"grey": "gray"},
    "positions": {"learnt": "learned"},
}
NESTED = (
    "network",
    "backbone",
    "described_by",
    "preprocessing",
)  # settings that are settings themselves


def upgrade_settings(settings: dict[str, Any], task: str) -> dict[str, Any]:
    """The settings under today's names, with today's names of choices."""
    renamed = RENAMED["*"] | RENAMED.get(task, {})
    inverted = INVERTED["*"] | INVERTED.get(task, {})
    upgraded: dict[str, Any] = {}
    for name, value in settings.items():
        if name in inverted:
            upgraded[inverted[name]] = not value
            continue
        if name in NESTED and isinstance(value, dict):
            value = upgrade_settings(value, "classify" if name == "backbone" else task)
        name = renamed.get(name, name)
        if isinstance(value, str):
            value = RENAMED_CHOICES.get(name, {}).get(value, value)
        upgraded[name] = value
    return upgraded


def upgrade_option(option: str, task: str) -> str | None:
    """Today's name of an option of `train`, such as --close-mosaic; None for other options."""
    name = option.removeprefix("--").replace("-", "_")
    renamed = (RENAMED["*"] | RENAMED.get(task, {})).get(name)
    inverted = (INVERTED["*"] | INVERTED.get(task, {})).get(name)
    if renamed is None and inverted is None:
        return None
    return f"--{renamed or f'no_{inverted}'}".replace("_", "-")


def upgrade_header(header: dict[str, Any]) -> dict[str, Any]:
    """The fields of a checkpoint's header, its settings under today's names."""
    if not header.get("dlkit", "").startswith("0.1."):
        return header
    task = header["task"]
    return header | {
        "settings": upgrade_settings(header["settings"], task),
        "config": upgrade_settings(header.get("config", {}), task),
    }


def upgrade_record(record: dict[str, Any], task: str) -> dict[str, Any]:
    """The record of an epoch in log.jsonl under today's names.

    Those of 0.2 also had the selecting metric as `score`, negated where lower is better, and those
    of `classify` the loss on validation data as `loss`, in place of the one on training data.
    """
    if "score" not in record:
        return record
    upgraded = {name: value for name, value in record.items() if name != "score"}
    if task == "classify" and record.keys() & {"top1", "map"}:
        loss = upgraded.pop("loss")
        return {"epoch": upgraded.pop("epoch"), "loss": None, "val_loss": loss, **upgraded}
    return upgraded
