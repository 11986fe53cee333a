"""Overlap, assignment and the cascade."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkd_ros.tracking.association import (
    height_iou,
    iou_matrix,
    matching_cascade,
    min_cost_matching,
    near_pairs,
    pair_overlaps,
)
from mmkd_ros.tracking.track import Galleries, TrackTable

INF = np.inf


def test_iou_of_known_boxes() -> None:
    first = np.array([[0.0, 0, 10, 10], [20, 20, 30, 40]])
    second = np.array([[0.0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10]])
    assert np.allclose(iou_matrix(first, second), [[1, 1 / 3, 0], [0, 0, 0]])
    assert iou_matrix(first, np.zeros((0, 4))).shape == (2, 0)
    assert iou_matrix(np.zeros((0, 4)), second).shape == (0, 3)


def test_height_iou_of_known_boxes() -> None:
    box = np.array([0.0, 10, 4, 30])
    others = np.array([[50.0, 10, 54, 30], [0, 20, 4, 40], [0, 10, 4, 20], [0, 30, 4, 50], [0, 90, 4, 99]])
    assert np.allclose(height_iou(box, others), [1, 1 / 3, 1 / 2, 0, 0])


@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(0, 9), st.integers(1, 9))
def test_near_pairs_are_those_of_the_plain_loop(seed: int, windows: int, points: int) -> None:
    rng = np.random.default_rng(seed)
    # whole numbers, so that many points lie on a border
    centres, reach = rng.integers(0, 9, (windows, 2)).astype(float), rng.integers(0, 4, (windows, 2)).astype(float)
    places = rng.integers(0, 9, (points, 2)).astype(float)
    rows, columns = near_pairs(centres, reach, places)
    assert np.all(np.diff(rows) >= 0)
    expected = {
        (i, j) for i in range(windows) for j in range(points) if (abs(places[j] - centres[i]) <= reach[i]).all()
    }
    assert sorted(zip(rows.tolist(), columns.tolist(), strict=True)) == sorted(expected)


@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(0, 9), st.integers(1, 9))
def test_no_overlapping_pair_is_missed(seed: int, n: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 12, (n + m, 2)).astype(float)
    boxes = np.concatenate((corner, corner + rng.integers(1, 6, (n + m, 2))), axis=1)
    rows, columns, overlap = pair_overlaps(boxes[:n], boxes[n:])
    got = np.zeros((n, m))
    got[rows, columns] = overlap
    assert len(set(zip(rows.tolist(), columns.tolist(), strict=True))) == len(rows)
    assert np.array_equal(got, iou_matrix(boxes[:n], boxes[n:]))


def test_assignment_is_the_best_total_not_the_best_first() -> None:
    cost = np.array([[0.1, 0.2], [0.11, 0.6]])
    matches, left = min_cost_matching(cost, 1.0, np.array([4, 7]), np.array([2, 3]))
    assert sorted(map(tuple, matches.tolist())) == [(4, 3), (7, 2)]
    assert left.tolist() == []


def test_pairs_over_the_limit_stay_apart_and_do_not_block_others() -> None:
    cost = np.array([[INF, 0.3, 0.9], [0.9, 0.3, INF]])
    matches, left = min_cost_matching(cost, 0.5, np.array([0, 1]), np.array([0, 1, 2]))
    assert len(matches) == 1 and matches[0, 1] == 1
    assert left.tolist() == [0, 2]
    matches, left = min_cost_matching(np.full((2, 3), INF), 0.5, np.array([0, 1]), np.array([0, 1, 2]))
    assert matches.shape == (0, 2) and left.tolist() == [0, 1, 2]


@settings(deadline=None)
@given(st.integers(0, 6), st.integers(0, 6), st.integers(0, 1000))
def test_assignment_loses_and_doubles_nothing(rows: int, columns: int, seed: int) -> None:
    cost = np.random.default_rng(seed).uniform(0, 1, (rows, columns))
    matches, left = min_cost_matching(cost, 0.5, np.arange(rows), np.arange(columns))
    assert sorted([*matches[:, 1].tolist(), *left.tolist()]) == list(range(columns))
    assert len(set(matches[:, 0].tolist())) == len(matches)
    assert (cost[matches[:, 0], matches[:, 1]] <= 0.5).all()


def test_the_cascade_serves_the_lately_seen_first() -> None:
    # the track unseen for 5 frames would be the better match, but comes later
    cost = np.array([[0.05, INF], [0.10, INF], [INF, 0.1]])
    matches, left = matching_cascade(cost, 0.2, np.array([5, 1, 3]), np.array([10, 11, 12]), np.arange(2))
    assert sorted(map(tuple, matches.tolist())) == [(11, 0), (12, 1)]
    assert left.tolist() == []
    matches, left = matching_cascade(np.zeros((0, 2)), 0.2, np.zeros(0, int), np.zeros(0, int), np.arange(2))
    assert matches.shape == (0, 2) and left.tolist() == [0, 1]


def _unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    v = rng.normal(size=shape)
    return (v / np.linalg.norm(v, axis=-1, keepdims=True)).astype(np.float32)


@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(1, 5))
def test_gallery_distance_equals_the_plain_loop(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    galleries = Galleries(size)
    kept: list[list[np.ndarray]] = []
    slots = galleries.new(_unit(rng, 3, 8))
    kept = [[galleries._vectors[slot, 0].copy()] for slot in slots]
    for _ in range(int(rng.integers(0, 9))):
        chosen = np.flatnonzero(rng.random(3) < 0.6)
        vectors = _unit(rng, len(chosen), 8)
        galleries.add(slots[chosen], vectors)
        for i, v in zip(chosen, vectors, strict=True):
            kept[i] = [*kept[i], v][-size:]
    queries = _unit(rng, 4, 8)
    wanted = rng.random((3, 4)) < 0.6
    rows, columns = np.nonzero(wanted)
    got = galleries.distances(slots, queries, rows, columns)
    assert got.shape == rows.shape
    assert galleries.count(slots).tolist() == [len(k) for k in kept]
    for i, j, distance in zip(rows, columns, got, strict=True):
        assert distance == pytest.approx(1 - max(float(v @ queries[j]) for v in kept[i]), abs=1e-6)


def test_a_moving_average_in_place_of_the_gallery() -> None:
    galleries = Galleries(100, momentum=0.9)
    slots = galleries.new(np.array([[1.0, 0.0]], np.float32))
    galleries.add(slots, np.array([[0.0, 1.0]], np.float32))
    # (0.9, 0.1) of length one
    query = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    got = galleries.distances(slots, query, np.array([0, 0]), np.array([0, 1]))
    assert got == pytest.approx([1 - 0.9 / np.sqrt(0.82), 1 - 0.1 / np.sqrt(0.82)], abs=1e-6)
    assert galleries.count(slots).tolist() == [1]
    # opposite vectors of equal weight leave none: far from all, and finite
    galleries = Galleries(1, momentum=0.5)
    slots = galleries.new(np.array([[1.0, 0.0]], np.float32))
    galleries.add(slots, np.array([[-1.0, 0.0]], np.float32))
    assert galleries.distances(slots, query, np.array([0, 0]), np.array([0, 1])).tolist() == [1, 1]


def test_gallery_places_are_used_again() -> None:
    rng = np.random.default_rng(0)
    galleries = Galleries(10)
    held = 0
    for _ in range(200):
        slots = galleries.new(_unit(rng, 5, 4))
        galleries.add(slots, _unit(rng, 5, 4))
        galleries.free(np.append(slots, -1))
        held = held or galleries.nbytes
        assert galleries.nbytes == held
    assert galleries.dimension == 4
    assert len(galleries.new(np.zeros((0, 9), np.float32))) == 0


def test_a_tie_of_votes_keeps_the_class() -> None:
    table = TrackTable(3)
    one = np.array([0])
    state = np.zeros((1, 8)), np.zeros((1, 8, 8)), np.zeros((1, 4))
    table.append(np.array([1]), *state, np.ones(1, np.float32), np.array([2]), 0.0)
    table.vote(one, np.array([1]))
    assert table.labels.tolist() == [2]
    table.vote(one, np.array([1]))
    assert table.labels.tolist() == [1]
    table.widen(5)
    assert table.votes.tolist() == [[0, 2, 1, 0, 0]]
