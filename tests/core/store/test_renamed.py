"""Settings of checkpoints and runs of 0.1 under today's names."""

from typing import get_args, get_type_hints

import pytest

from dlkit.classify.config import ClassifyTrainConfig
from dlkit.core.store.renamed import RENAMED_CHOICES, upgrade_header, upgrade_settings
from dlkit.gan_sample.config import GanTrainConfig
from dlkit.lm_generate.config import LmTrainConfig


@pytest.mark.parametrize("task", ["classify", "gan-sample"])
def test_gray_images_of_0_1_stay_gray(task: str) -> None:
    assert upgrade_settings({"colour": "grey"}, task) == {"color": "gray"}
    assert upgrade_settings({"colour": "rgb"}, task) == {"color": "rgb"}


def test_learned_positions_of_0_1_are_known_in_config_and_network() -> None:
    header = {
        "task": "lm-generate",
        "settings": {"network": {"positions": "learnt", "width": 8}},
        "config": {"positions": "learnt"},
    }
    upgraded = upgrade_header(header | {"dlkit": "0.1.0"})
    assert upgraded["settings"]["network"] == {"positions": "learned", "width": 8}
    assert upgraded["config"] == {"positions": "learned"}
    assert upgrade_header(header | {"dlkit": "0.2.0"}) == header | {"dlkit": "0.2.0"}


@pytest.mark.parametrize(
    ("config", "name"),
    [(ClassifyTrainConfig, "color"), (GanTrainConfig, "color"), (LmTrainConfig, "positions")],
)
def test_renamed_choices_are_choices_of_today(config: type, name: str) -> None:
    assert set(RENAMED_CHOICES[name].values()) <= set(get_args(get_type_hints(config)[name]))
