"""The warping path: open ends, the corridor, and memory linear in the lengths."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray

from modal_workers.road_video import time_warping as warping
from modal_workers.road_video.smoothing import local_regression
from modal_workers.road_video.time_warping import find_warping_path


def places(place: NDArray[np.float64], length: int = 48, seed: int = 1) -> NDArray[np.float32]:
    """Return unit vectors [N, L] that are alike where places are near: random Fourier features of the place."""
    random = np.random.default_rng(seed)
    phase = place[:, None] * random.normal(0, 0.8, length) + random.uniform(0, 2 * np.pi, length)
    vectors = np.cos(phase)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_a_known_warp_is_found() -> None:
    time = np.arange(400) / 10
    bent = time + 1.5 * np.sin(time / 6)
    a, b = places(time), places(bent)
    path = find_warping_path(a, b)
    rows, columns = path.mean_b_per_a()
    truth = np.interp(time[rows], bent, np.arange(400))
    assert np.median(np.abs(columns - truth)) < 1.0
    assert np.mean((a[path.index_a] * b[path.index_b]).sum(axis=1)) > 0.95


def test_ends_are_open_on_both_sides() -> None:
    path = find_warping_path(places(np.arange(50, 300) / 10), places(np.arange(0, 220) / 10))
    assert abs(int(path.index_a[0]) - 0) <= 2
    assert abs(int(path.index_b[0]) - 50) <= 2
    assert abs(int(path.index_b[-1]) - 219) <= 2
    assert abs(int(path.index_a[-1]) - 169) <= 2


def test_a_start_that_the_clips_do_not_share_is_excluded() -> None:
    """Both clips begin somewhere else (a garage each) before they come to the same road."""
    road = np.arange(0, 200) / 10
    a = np.concatenate([places(np.arange(0, 60) / 10 + 500), places(road)])
    b = np.concatenate([places(np.arange(0, 40) / 10 + 900), places(road)])
    path = find_warping_path(a, b)
    assert abs(int(path.index_a[0]) - 60) <= 3
    assert abs(int(path.index_b[0]) - 40) <= 3


def test_the_corridor_gives_the_path_of_the_whole_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    time = np.arange(1500) / 20
    a, b = places(time), places(time * 0.93 + 0.8 * np.sin(time / 5) + 2)
    whole = find_warping_path(a, b)
    monkeypatch.setattr(warping, "COARSE_SAMPLES", 300)
    narrow = find_warping_path(a, b)
    assert narrow.gain == pytest.approx(whole.gain, rel=0.01)
    rows_1, columns_1 = whole.mean_b_per_a()
    rows_2, columns_2 = narrow.mean_b_per_a()
    common = np.intersect1d(rows_1, rows_2)
    assert len(common) > 0.98 * len(rows_1)
    apart = np.abs(columns_1[np.isin(rows_1, common)] - columns_2[np.isin(rows_2, common)])
    assert np.quantile(apart, 0.99) <= 1.0


def test_memory_grows_with_the_sum_of_lengths_not_with_their_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five minutes at 30 Hz: one float64 matrix of the pair alone would be 650 MB."""
    time = np.arange(9_000) / 30
    a, b = places(time, 16), places(time * 1.02 + np.sin(time / 20), 16)
    monkeypatch.setattr(warping, "COARSE_SAMPLES", 1200)
    tracemalloc.start()
    path = find_warping_path(a, b)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50 * 2**20
    rows, columns = path.mean_b_per_a()
    truth = np.interp(time[rows], time * 1.02 + np.sin(time / 20), np.arange(9_000))
    assert np.median(np.abs(columns - truth)) < 2.0


def test_local_regression_returns_value_and_slope_despite_outliers() -> None:
    random = np.random.default_rng(7)
    time = np.cumsum(random.uniform(0.02, 0.05, 400))
    truth = 0.3 * time**2 + time
    noisy = truth + random.normal(0, 0.01, 400)
    noisy[::25] += 1.0
    value, slope = local_regression(time, noisy, np.ones(400), 0.3)
    inner = slice(20, -20)
    assert np.max(np.abs(value - truth)[inner]) < 0.03
    assert np.max(np.abs(slope - (0.6 * time + 1))[inner]) < 0.15
