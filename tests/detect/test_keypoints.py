"""Errors of keypoints."""

import numpy as np
import pytest

from dlkit.core.datasets.poses import mirrored_names
from dlkit.core.datasets.samples import Pose
from dlkit.detect.keypoints import PERSON, PERSON_SIGMAS, distances, sigmas_of

NAN = float("nan")


def test_distances_by_hand() -> None:
    """In an image 100 wide, keypoints 40 apart: off by 3, 5 and unknown; then one alone."""
    truth = np.array([[[10.0, 10], [50, 20], [NAN, NAN]], [[8, 8], [NAN, NAN], [NAN, NAN]]])
    points = truth + np.array([[[3.0, 0], [3, -4], [1, 1]], [[0, 20], [0, 0], [0, 0]]])
    found = distances(points, truth, np.array([[100, 60], [40, 200]]), np.full(2, NAN))
    assert found.of_image[0, :2].tolist() == pytest.approx([0.03, 0.05])
    assert found.of_object[0, :2].tolist() == pytest.approx([3 / 40, 5 / 40])
    assert found.scores() == pytest.approx({"distance": (0.03 + 0.05 + 0.1) / 3, "pck_0.1": 0.5})
    first, second, third = (own.scores() for own in found.each())
    assert first == pytest.approx({"distance": (0.03 + 0.1) / 2, "pck_0.1": 1.0})
    assert second == pytest.approx({"distance": 0.05, "pck_0.1": 0.0})
    assert np.isnan([*third.values()]).all()


def test_similarities_are_those_of_pycocotools() -> None:
    """Objects with all, some and none of 17 keypoints, close by and far away."""
    coco, cocoeval = (pytest.importorskip(f"pycocotools.{name}") for name in ("coco", "cocoeval"))
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 100, (6, 17, 2)).round(1)
    points = (truth + rng.normal(size=truth.shape) * rng.choice([2, 8], (6, 1, 1))).round(1)
    truth[1, 5:], truth[2, ::2] = NAN, NAN
    areas = np.array([900.0, 2500, 400, 1600, 3000, 800])
    of_person = {"image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [0, 0, 100, 100]}
    expected = []
    for own, found, area in zip(truth, points, areas, strict=True):
        seen = ~np.isnan(own).any(axis=1)
        triples = np.column_stack([np.nan_to_num(own), 2 * seen]).flatten().tolist()
        record = {"id": 1, "keypoints": triples, "num_keypoints": int(seen.sum()), "area": area}
        data = coco.COCO()
        data.dataset = {
            "images": [{"id": 1, "width": 100, "height": 100}],
            "categories": [{"id": 1, "name": "person"}],
            "annotations": [of_person | record],
        }
        data.createIndex()
        answer = np.column_stack([found, np.ones(17)]).flatten().tolist()
        results = data.loadRes([of_person | {"keypoints": answer, "score": 1.0}])
        scorer = cocoeval.COCOeval(data, results, "keypoints")
        scorer._prepare()
        expected.append(float(scorer.computeOks(1, 1)[0, 0]))
    sizes = np.full((6, 2), 100)
    scored = distances(points, truth, sizes, areas, np.array(PERSON_SIGMAS))
    assert scored.similarities == pytest.approx(expected)
    assert min(expected) < 0.1 < 0.8 < max(expected)
    scores = scored.scores()
    assert scores["oks"] == pytest.approx(np.mean(expected))
    assert scores["oks_0.5"] == pytest.approx(np.mean(np.array(expected) >= 0.5))


def test_only_persons_have_similarities() -> None:
    person = Pose(17, PERSON)
    assert sigmas_of(person) is not None
    assert sigmas_of(Pose(17, mirrored=mirrored_names(PERSON))) is not None
    assert sigmas_of(Pose(17)) is None
    assert sigmas_of(Pose(17, tuple(reversed(PERSON)))) is None
    without_area = distances(
        np.zeros((1, 17, 2)), np.zeros((1, 17, 2)), np.ones((1, 2)), np.array([NAN]),
        np.array(PERSON_SIGMAS),
    )  # fmt: skip
    assert np.isnan(without_area.scores()["oks"])
