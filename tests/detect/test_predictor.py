"""Thresholds of labels."""

from pathlib import Path

import pytest

from dlkit.detect import infer, options, predictor
from tests.conftest import scene


def test_thresholds_of_labels(tmp_path: Path, model: Path) -> None:
    for seed in (20, 21):
        scene(seed)[0].save(tmp_path / f"{seed}.png")
    detector = infer.load(str(model), "cpu", "fp32")
    paths = [str(tmp_path / f"{seed}.png") for seed in (20, 21)]

    def scores(text: str, **settings: int) -> list[tuple[str, float]]:
        threshold, own = options.parse_thresholds(text)
        method = options.DetectOptions(threshold, own, **settings)  # type: ignore[arg-type]
        results = infer.detect(paths, detector, method)
        return [
            (o.label, o.score)
            for r in results
            if isinstance(r, infer.Detections)
            for o in r.objects
        ]

    low = scores("0.002")
    assert len(low) > 10
    for text, disc, square in [
        ("0.002,disc=0.5", 0.5, 0.002),
        ("disc=0.01, square = 0.4", 0.01, 0.4),
        ("disc=0.01", 0.01, detector.thresholds["square"]),
    ]:
        least = {"disc": disc, "square": square}
        assert scores(text) == [(label, s) for label, s in low if s >= least[label]], text
    plain = infer.Detector(detector.network, detector.labels, 64, detector.device)
    assert predictor.min_scores(plain, options.DetectOptions()).tolist() == pytest.approx([0.3] * 2)
    own = predictor.min_scores(detector, options.DetectOptions()).tolist()
    assert dict(zip(detector.labels, own, strict=True)) == pytest.approx(detector.thresholds)
    # Doubtful squares take no disc's place.
    best = scores("0.5,square=1", max_detections=1)
    assert [label for label, _ in best] == ["disc", "disc"]
