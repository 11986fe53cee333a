"""Progress: shown for work above two seconds, nothing for shorter work, no trace left, errors and values unharmed."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from mmkd_train import progress


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """What standard error has got so far."""
    got: list[str] = []

    def read() -> str:
        got.append(capsys.readouterr().err)
        return "".join(got)

    return read


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "DELAY_S", 0.01)
    monkeypatch.setattr(progress, "_TICK_S", 0.01)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.usefixtures("soon")
def test_a_clock_shows_while_the_work_goes_on_and_leaves_nothing(terminal: Callable[[], str]) -> None:
    with progress.clock("exporting"):
        wait_for(lambda: "exporting: 00:00" in terminal())
    assert terminal().rpartition("\r")[0].rpartition("\r")[2].strip() == ""


def test_short_work_shows_nothing(terminal: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "DELAY_S", 600.0)
    with progress.clock("exporting"):
        pass
    assert list(progress.steps([1, 2], "reading")) == [1, 2]
    assert terminal() == ""


@pytest.mark.usefixtures("soon", "terminal")
def test_an_error_passes_through_a_clock() -> None:
    with pytest.raises(ValueError, match="no such file"), progress.clock("exporting"):
        raise ValueError("no such file")


@pytest.mark.usefixtures("soon")
def test_steps_name_what_is_done_and_how_far(terminal: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    bar = progress.steps(iter("abc"), "reading", total=3, unit="message")
    monkeypatch.setattr(bar, "mininterval", 0.0)
    time.sleep(0.02)
    seen = []
    for item in bar:
        seen.append(item)
        time.sleep(0.03)
    assert seen == ["a", "b", "c"]
    assert "reading" in terminal() and "/3" in terminal() and "message/s" in terminal()
