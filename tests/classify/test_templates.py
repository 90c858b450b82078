"""Pictures of linear classifiers."""

from pathlib import Path

from PIL import Image

from tests.classify.helpers import SIDE, trained


def test_linear_saves_its_templates(stripes: Path, tmp_path: Path) -> None:
    trained(stripes, tmp_path / "run", "--arch", "linear")
    with Image.open(tmp_path / "run" / "templates.png") as picture:
        assert picture.width > 3 * SIDE
