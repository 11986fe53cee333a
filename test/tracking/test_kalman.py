"""The filter against numbers worked out by hand, and against the plain matrix form."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mmkd_ros.tracking.kalman import CHI2_95_4, KalmanFilter

FRAME = 1 / 30


def _tracks(n: int, seed: int, steps: int = 3) -> tuple[KalmanFilter, NDArray[np.float64], NDArray[np.float64]]:
    """A filter and n states with full covariances."""
    rng = np.random.default_rng(seed)
    kalman = KalmanFilter()
    z = np.concatenate((rng.uniform(0, 500, (n, 2)), rng.uniform(0.3, 2, (n, 1)), rng.uniform(20, 200, (n, 1))), axis=1)
    means, covariances = kalman.initiate(z)
    for _ in range(steps):
        means, covariances = kalman.predict(means, covariances, FRAME)
        means, covariances = kalman.update(means, covariances, z + rng.normal(0, 1, z.shape) * (1, 1, 0.01, 1))
    return kalman, means, covariances


def test_one_nominal_frame_gives_the_published_numbers() -> None:
    kalman = KalmanFilter(30.0)
    means, covariances = kalman.initiate(np.array([[50.0, 60.0, 0.5, 100.0]]))
    # birth: h/10 = 10 px, h/16 = 6.25 px a frame = 187.5 px/s; aspect 0.01 and 1e-5 a frame
    assert np.allclose(np.sqrt(np.diag(covariances[0])), [10, 10, 0.01, 10, 187.5, 187.5, 3e-4, 187.5])
    means, covariances = kalman.predict(means, covariances, FRAME)
    # 10^2 + 6.25^2 + (h/20)^2, and (6.25^2 + (h/160)^2) * 30^2
    assert covariances[0, 0, 0] == pytest.approx(164.0625)
    assert covariances[0, 0, 4] == pytest.approx(39.0625 * 30)
    assert covariances[0, 4, 4] == pytest.approx(39.453125 * 900)
    assert covariances[0, 2, 2] == pytest.approx(2e-4 + 1e-10)
    expected, innovation = kalman.project(means, covariances)
    assert expected[0].tolist() == [50, 60, 0.5, 100]
    assert np.allclose(np.diag(innovation[0]), [189.0625, 189.0625, 2e-4 + 1e-10 + 0.01, 189.0625])
    # squared distance of a measurement 10 px to the right: 100 / 189.0625
    distance = kalman.within_gate(means, covariances, np.array([[60.0, 60, 0.5, 100]]))[2]
    assert distance == pytest.approx(0.5289256)
    means, covariances = kalman.update(means, covariances, np.array([[60.0, 60, 0.5, 100]]))
    assert means[0, 0] == pytest.approx(50 + 10 * 164.0625 / 189.0625)
    assert means[0, 4] == pytest.approx(30 * 10 * 39.0625 / 189.0625)
    assert covariances[0, 0, 0] == pytest.approx(164.0625 * 25 / 189.0625)
    assert means[0, [1, 2, 3, 5, 6, 7]].tolist() == [60, 0.5, 100, 0, 0, 0]


def test_the_state_size_has_noise_by_width_and_height() -> None:
    kalman = KalmanFilter(30.0, "size")
    means, covariances = kalman.initiate(np.array([[50.0, 60.0, 40.0, 100.0]]))
    # birth: a tenth of w or h; per second 30 / 16 of it
    assert np.allclose(np.sqrt(np.diag(covariances[0])), [4, 10, 4, 10, 75, 187.5, 75, 187.5])
    means, covariances = kalman.predict(means, covariances, FRAME)
    # 4^2 + 2.5^2 + (w/20)^2, and as for the aspect in y
    assert np.diag(covariances[0])[:4] == pytest.approx([26.25, 164.0625, 26.25, 164.0625])
    means, covariances = kalman.update(means, covariances, np.array([[60.0, 60.0, 50.0, 100.0]]))
    assert means[0, [0, 2]] == pytest.approx([50 + 10 * 26.25 / 30.25, 40 + 10 * 26.25 / 30.25])
    assert kalman.boxes(means)[0, 2] - kalman.boxes(means)[0, 0] == pytest.approx(means[0, 2])


def test_a_tenth_of_the_noise_moves_the_state_nearer_to_the_measurement() -> None:
    kalman = KalmanFilter(30.0)
    means, covariances = kalman.predict(*kalman.initiate(np.array([[50.0, 60.0, 0.5, 100.0]])), FRAME)
    z = np.array([[60.0, 60.0, 0.5, 100.0]])
    got, _ = kalman.update(means, covariances, z, np.array([0.1]))
    assert got[0, 0] == pytest.approx(50 + 10 * 164.0625 / (164.0625 + 2.5))
    plain, _ = kalman.update(means, covariances, z)
    assert np.array_equal(plain, kalman.update(means, covariances, z, np.ones(1))[0])


def test_noise_grows_in_proportion_to_time() -> None:
    kalman, means, covariances = _tracks(4, 0)
    once_means, once = kalman.predict(means, covariances, 0.2)
    half_means, half = kalman.predict(means, covariances, 0.1)
    # the height, which the noise follows, must not have moved between the halves
    half_means[:, 3] = means[:, 3]
    _, twice = kalman.predict(half_means, half, 0.1)
    assert np.allclose(once[:, 4:, 4:], twice[:, 4:, 4:])
    assert np.allclose(once_means[:, :3], kalman.predict(half_means, half, 0.1)[0][:, :3])
    standing_means, standing = kalman.predict(means, covariances, 0.0)
    assert np.array_equal(standing_means, means) and np.array_equal(standing, covariances)


def test_the_rate_only_changes_the_unit_of_time() -> None:
    z = np.array([[10.0, 20.0, 0.4, 80.0]])
    results = []
    for rate in (10.0, 50.0):
        kalman = KalmanFilter(rate)
        means, covariances = kalman.initiate(z)
        for shift in (3.0, 5.0, 9.0):
            means, covariances = kalman.predict(means, covariances, 1 / rate)
            means, covariances = kalman.update(means, covariances, z + (shift, 0, 0, 0))
        results.append((means[0, :4], means[0, 4:] / rate, covariances[0, :4, :4]))
    for first, second in zip(*results, strict=True):
        assert np.allclose(first, second)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.floats(0.001, 2))
def test_blocks_equal_the_matrix_form(seed: int, dt: float) -> None:
    kalman, means, covariances = _tracks(3, seed)
    transition = np.eye(8) + dt * np.eye(8, k=4)
    got_means, got = kalman.predict(means, covariances, dt)
    h = means[:, 3]
    q = np.stack([h / 20, h / 20, 0 * h + 0.01, h / 20, h / 160 * 30, h / 160 * 30, 0 * h + 3e-4, h / 160 * 30], axis=1)
    for i in range(3):
        assert np.allclose(got_means[i], transition @ means[i])
        assert np.allclose(got[i], transition @ covariances[i] @ transition.T + np.diag(q[i] ** 2) * dt * 30)
    z = got_means[:, :4] + 1
    expected, innovation = kalman.project(got_means, got)
    for i, j, distance in zip(*kalman.within_gate(got_means, got, z, np.inf), strict=True):
        off = z[j] - expected[i]
        assert distance == pytest.approx(off @ np.linalg.inv(innovation[i]) @ off, rel=1e-6)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 12), st.floats(1.0, 300.0))
def test_the_gate_loses_no_pair_and_lets_none_too_far_in(seed: int, tracks: int, spread: float) -> None:
    """The windows that pairs are looked for in are wide enough: the same pairs as by comparing everything."""
    kalman, means, covariances = _tracks(tracks, seed)
    means, covariances = kalman.predict(means, covariances, 0.3)
    rng = np.random.default_rng(seed)
    z = np.repeat(means[:, :4], 2, axis=0) + rng.normal(0, 1, (2 * tracks, 4)) * (spread, spread, 0.1, spread / 4)
    everything = kalman.within_gate(means, covariances, z, np.inf)
    assert len(everything[0]) == 2 * tracks**2
    got = kalman.within_gate(means, covariances, z)
    assert np.all(np.diff(got[0]) >= 0)
    expected = {(i, j): d for i, j, d in zip(*everything, strict=True) if d <= CHI2_95_4}
    assert {(i, j): d for i, j, d in zip(*got, strict=True)} == expected


@settings(deadline=None)
@given(st.integers(0, 10_000), st.lists(st.floats(0.001, 1), min_size=1, max_size=30))
def test_covariances_stay_positive_definite(seed: int, gaps: list[float]) -> None:
    kalman, means, covariances = _tracks(2, seed)
    rng = np.random.default_rng(seed)
    for dt in gaps:
        means, covariances = kalman.predict(means, covariances, dt)
        if rng.random() < 0.6:
            z = means[:, :4] + rng.normal(0, 20, (2, 4)) * (1, 1, 0.001, 0.5)
            means, covariances = kalman.update(means, covariances, z)
        assert np.isfinite(means).all()
        assert np.linalg.eigvalsh(covariances).min() > 0
        assert np.allclose(covariances, covariances.transpose(0, 2, 1), rtol=1e-9)


def test_a_vanishing_height_keeps_noise_and_boxes_sound() -> None:
    kalman = KalmanFilter()
    means, covariances = kalman.initiate(np.array([[0.0, 0.0, 0.5, 10.0]]))
    means[0, 7] = -300  # shrinks by 10 px a frame
    for _ in range(3):
        means, covariances = kalman.predict(means, covariances, FRAME)
        box = kalman.boxes(means)[0]
        assert box[2] > box[0] and box[3] > box[1]
        distance = kalman.within_gate(means, covariances, np.array([[0.0, 0.0, 0.5, 10.0]]), np.inf)[2]
        assert len(distance) == 1 and np.isfinite(distance).all()
    assert means[0, 3] < 0


def test_boxes_survive_the_round_trip() -> None:
    boxes = np.array([[0.0, 10.0, 30.0, 50.0], [-5.0, -6.0, 1.0, 2.0]])
    for state, third in (("aspect", 0.75), ("size", 30)):
        kalman = KalmanFilter(state=state)
        assert kalman.measurements(boxes)[0].tolist() == [15, 30, third, 40]
        assert np.allclose(kalman.boxes(kalman.measurements(boxes)), boxes)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan")])
def test_a_rate_without_sense_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="nominal_rate_hz"):
        KalmanFilter(rate)
    with pytest.raises(ValueError, match="state"):
        KalmanFilter(state="area")
