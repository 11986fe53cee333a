"""Fixtures of the inference tests: a weights file, and a cache folder that is not the user's."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_detector import lively_detector

from mmkd_ros.inference.weights import save_detector


@pytest.fixture(scope="session")
def lively_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """File of :func:`tiny_detector.lively_detector`."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_detector(path, lively_detector(), {})
    return path


@pytest.fixture(scope="session")
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all: each graph is exported once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(cache_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps tests out of the user's cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home))
