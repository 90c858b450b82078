"""Following objects: the Kalman filter, the assignment, and SORT on scenes made by hand."""

import itertools
from unittest import mock

import numpy as np
import pytest

from dlkit.detect import track
from dlkit.detect.track import LOST_AFTER, Motion, Tracker, min_cost_pairs


def box(x: float, y: float, width: float = 40, height: float = 20) -> np.ndarray:
    """The box around a center."""
    return np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])


def test_the_filter_is_the_mean_of_the_state_given_what_was_seen() -> None:
    """All frames at once: states and measurements are jointly Gaussian, so conditioning is exact.

    x_t = F^t x_0 + the sum of F^(t - s) w_s, and z_t = H x_t + v_t.
    """
    rng = np.random.default_rng(0)
    places = 100 + rng.normal(size=(5, 2)) * 5
    boxes = [box(x, y, 40 + t, 30) for t, (x, y) in enumerate(places)]
    motion = Motion(boxes[0])
    for seen in boxes[1:]:
        motion.predict()
        motion.correct(seen)

    f, h, steps = track.MOTION, track.OBSERVATION, range(1, 5)
    # The state after each step as a linear map of x_0 and all noises w_1 ... w_4.
    sources = np.block(
        [
            [np.linalg.matrix_power(f, t)]
            + [np.linalg.matrix_power(f, t - s) if s <= t else np.zeros((7, 7)) for s in steps]
            for t in steps
        ]
    )
    noise = np.kron(np.eye(4), track.MOTION_NOISE)
    zeros = np.zeros((7, 28))
    spread = np.block([[track.FIRST_VARIANCES, zeros], [zeros.T, noise]])
    states = sources @ spread @ sources.T
    mean = sources[:, :7] @ np.concatenate([track.measure(boxes[0]), np.zeros(3)])
    look = np.kron(np.eye(4), h)
    seen_variance = look @ states @ look.T + np.kron(np.eye(4), track.OBSERVATION_NOISE)
    gain = (states @ look.T)[-7:] @ np.linalg.inv(seen_variance)
    measurements = np.concatenate([track.measure(seen) for seen in boxes[1:]])
    expected = mean[-7:] + gain @ (measurements - look @ mean)
    assert motion.state == pytest.approx(expected, rel=1e-6)
    left = states[-7:, -7:] - gain @ (states @ look.T)[-7:].T
    assert motion.covariance == pytest.approx(left, rel=1e-6, abs=1e-6)


def test_a_steady_motion_is_predicted() -> None:
    motion = Motion(box(50, 50))
    for t in range(1, 30):
        motion.predict()
        motion.correct(box(50 + 3 * t, 50 - 2 * t))
    assert motion.state[4:6] == pytest.approx([3, -2], abs=0.01)
    assert motion.predict() == pytest.approx(box(50 + 90, 50 - 60), abs=0.1)


def test_a_shrinking_box_never_vanishes() -> None:
    motion = Motion(box(50, 50, 60, 60))
    for side in (50, 30, 10, 0):
        motion.predict()
        motion.correct(box(50, 50, side, side))
    for _ in range(20):
        x1, y1, x2, y2 = motion.predict()
        assert x2 > x1
        assert y2 > y1


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (2, 5), (5, 2), (4, 4), (0, 3), (3, 0)])
def test_the_assignment_is_the_best_of_all(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(sum(shape))
    for _ in range(20):
        costs = rng.integers(-9, 9, shape).astype(float)
        few, many = sorted(shape)
        turned = costs if shape[0] <= shape[1] else costs.T
        sums = [
            sum(turned[row, column] for row, column in enumerate(columns))
            for columns in itertools.permutations(range(many), few)
        ]
        pairs = min_cost_pairs(costs)
        assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == few
        assert sum(costs[pair] for pair in pairs) == min(sums)


def test_the_assignment_is_scipys() -> None:
    optimize = pytest.importorskip("scipy.optimize")
    rng = np.random.default_rng(0)
    for shape in [(30, 30), (20, 45), (45, 20)]:
        costs = -rng.random(shape)
        assert min_cost_pairs(costs) == list(
            zip(*optimize.linear_sum_assignment(costs), strict=True)
        )


def numbers_of(
    frames: list[dict[str, np.ndarray]], label: str = "cat"
) -> list[dict[str, int | None]]:
    """The number each box, which has a name, is given in each frame."""
    tracker = Tracker()
    found: list[dict[str, int | None]] = []
    for frame in frames:
        boxes = np.array(list(frame.values())).reshape(-1, 4)
        found.append(dict(zip(frame, tracker.update(boxes, ["cat"] * len(frame)), strict=True)))
    return found


def crossing() -> list[dict[str, np.ndarray]]:
    """Two go through each other; the order of the boxes changes, and one is hidden meanwhile."""
    rng = np.random.default_rng(0)
    frames = []
    for t in range(40):
        pair = {"right": box(20 + 12 * t, 100), "left": box(488 - 12 * t, 108)}
        pair = {name: value + rng.normal(size=4) * 0.5 for name, value in pair.items()}
        if 18 <= t <= 21:
            del pair["left"]
        frames.append(pair if t % 2 else dict(reversed(pair.items())))
    return frames


def test_two_that_cross_keep_their_numbers() -> None:
    numbers = numbers_of(crossing())
    for name in ("right", "left"):
        own = {frame[name] for frame in numbers if name in frame}
        assert own == {numbers[0][name]}
    assert {numbers[0]["right"], numbers[0]["left"]} == {1, 2}


def test_without_the_motion_they_are_mistaken() -> None:
    """Else the scene would be no test of the filter."""
    with mock.patch.object(track, "MOTION", np.eye(7)):
        numbers = numbers_of(crossing())
    assert any(len({f[name] for f in numbers if name in f}) > 1 for name in ("right", "left"))


def test_what_comes_later_has_a_number_from_its_third_frame_on() -> None:
    frames = [{"old": box(50, 50)} for _ in range(10)]
    for t in range(4, 10):
        frames[t]["new"] = box(200, 200)
    frames[7]["blink"] = box(400, 400)
    numbers = numbers_of(frames)
    assert [frame["old"] for frame in numbers] == [1] * 10
    assert [frame["new"] for frame in numbers[4:]] == [None, None, 2, 2, 2, 2]
    assert numbers[7]["blink"] is None


@pytest.mark.parametrize(("gap", "number"), [(LOST_AFTER, 1), (LOST_AFTER + 1, None)])
def test_one_that_was_away_too_long_is_another(gap: int, number: int | None) -> None:
    frames = [{"it": box(50, 50)} for _ in range(5)]
    frames += [{} for _ in range(gap)] + [{"it": box(50, 50)} for _ in range(4)]
    later = [frame["it"] for frame in numbers_of(frames)[-4:]]
    assert later[0] == number
    assert later[-1] == (number or 2)


def test_a_dog_does_not_become_a_cat() -> None:
    tracker = Tracker()
    at = box(50, 50)[None]
    assert [tracker.update(at, ["dog"]) for _ in range(4)] == [[1]] * 4
    assert [tracker.update(at, ["cat"])[0] for _ in range(3)] == [None, None, 2]


def test_frames_without_anything() -> None:
    tracker = Tracker()
    assert tracker.update(np.zeros((0, 4)), []) == []
    assert tracker.update(box(5, 5)[None], ["cat"]) == [None]
    assert tracker.update(np.zeros((0, 4)), []) == []
