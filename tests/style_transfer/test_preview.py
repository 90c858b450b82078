"""Recording of the progress of a painting."""

from pathlib import Path

from dlkit.style_transfer import infer, preview
from tests.style_transfer.helpers import smooth


def test_a_long_way_has_few_frames(tmp_path: Path) -> None:
    recorder = preview.ProgressRecorder(tmp_path / "x.png", 0, True, 1000)
    picture = infer.to_pillow(smooth(40, 800))
    for number in range(1001):
        recorder.record(number, lambda: picture)
    assert len(recorder.frames) <= preview.FRAMES + 1
    assert recorder.frames[0].size == (320, 16)
