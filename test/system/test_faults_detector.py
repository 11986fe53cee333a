"""A device that fails, a network that answers NaN, weights that are none: the node lives, says why, and goes on."""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cameras import Cameras, Watch
from diagnostic_msgs.msg import DiagnosticArray
from fault_report import FaultReport
from node_bench import Bench, spun
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter

from mmkd_ros.nodes.detection_node import DetectionNode, load_session

torch = pytest.importorskip("torch")
SUCCESS = TransitionCallbackReturn.SUCCESS


class Failing:
    """Stands before the network of a session, behind all checks of its answer; fails while ``failure`` is set."""

    def __init__(self, network: Any) -> None:
        self._network, self.failure = network, ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def __call__(self, *arguments: Any) -> Any:
        if self.failure == "out of memory":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        logits, offsets = self._network(*arguments)
        return np.full_like(logits, np.nan) if self.failure == "NaN" else logits, offsets


@contextmanager
def detector(bench: Bench, weights: Path, factory: Callable[..., Any] = load_session) -> Iterator[DetectionNode]:
    overrides = [Parameter("weights", value=str(weights)), Parameter("device", value="cpu")]
    overrides += [Parameter("backend", value="torch"), Parameter("threads", value=1)]
    node = DetectionNode(factory, context=bench.context, parameter_overrides=overrides)
    with spun(node, bench.context):
        yield node


@pytest.mark.parametrize("failure", ["out of memory", "NaN"])
def test_the_network_fails_for_a_while(bench: Bench, tiny_weights: Path, figures: FaultReport, failure: str) -> None:
    networks: list[Failing] = []

    def factory(*arguments: Any, **options: Any) -> Any:
        session = load_session(*arguments, **options)
        session._model._network = Failing(session._model._network)
        networks.append(session._model._network)
        return session

    with detector(bench, tiny_weights, factory) as node:
        assert node.autostart()
        diagnostics = bench.collect(DiagnosticArray, "/diagnostics")
        watch = Watch(bench)
        with Cameras(bench):
            bench.wait(lambda: len(watch.outputs) > 10, "for outputs")
            networks[0].failure = failure
            bench.wait(lambda: int(bench.figures(diagnostics).get("dropped.inference", 0)) > 5, "for failures")
            networks[0].failure, mended = "", time.monotonic()
            bench.wait(lambda: watch.since(mended), "for an output")
            figures.seconds(f"network fails ({failure}): recovery", watch.since(mended)[0].at - mended, 1.0)
    assert watch.backward_steps() == []


def test_nan_in_the_weights_is_told_and_no_box_leaves(bench: Bench, tiny_weights: Path, figures: FaultReport) -> None:
    """NaN through the real network, not a stand-in: every weight of the class head is NaN."""
    from mmkd_ros.inference.weights import load_detector, save_detector

    network, _ = load_detector(tiny_weights)
    with torch.no_grad():
        for weight in network.class_head.parameters():
            weight.fill_(float("nan"))
    broken = tiny_weights.with_name("nan.safetensors")
    save_detector(broken, network, {})
    with detector(bench, broken) as node:
        accepted = node.trigger_configure() == SUCCESS  # the warm-up finds it
    figures.number("NaN in the weights: files accepted", accepted, 0)


def spoil(good: Path, kind: str, folder: Path) -> Path:
    """A weights file that cannot be used."""
    from mmkd_ros.inference.weights import load_weights, save_weights

    path, content = folder / f"{kind}.safetensors", bytearray(good.read_bytes())
    if kind == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "bit flipped":
        content[-5000] ^= 1
        path.write_bytes(content)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(Payload(folder / "executed")))
    elif kind in ("other classes", "other input size"):
        tensors, metadata = load_weights(good)
        config = metadata["config"]
        config.update({"class_names": ["person"]} if kind == "other classes" else {"input_size": [65, 97]})
        save_weights(path, tensors, json.loads(json.dumps(metadata)))
    return path


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self._marker,)


SENTENCES = {
    "missing": "There is no weights file",
    "truncated": "truncated",
    "bit flipped": "does not match its own sha256",
    "pickle": "not a readable safetensors file",
    "other classes": "does not fit the network that it describes",
    "other input size": "input_size",
}


def test_weights_that_are_none(
    bench: Bench, tiny_weights: Path, tmp_path: Path, figures: FaultReport, capfd: pytest.CaptureFixture[str]
) -> None:
    """One node: each file is refused with its reason, and the good one is still taken afterwards."""
    accepted = 0
    with detector(bench, tiny_weights) as node:
        for kind, sentence in SENTENCES.items():
            node.set_parameters([Parameter("weights", value=str(spoil(tiny_weights, kind, tmp_path)))])
            capfd.readouterr()
            accepted += node.trigger_configure() == SUCCESS
            said = capfd.readouterr().err
            assert "cannot be configured" in said and sentence in said, (kind, said)
        figures.number("weights missing, truncated, flipped, of other classes or size: files accepted", accepted, 0)
        executed = (tmp_path / "executed").exists()
        figures.number("weights that are a pickle with a payload: payloads executed", executed, 0)
        node.set_parameters([Parameter("weights", value=str(tiny_weights))])
        assert node.trigger_configure() == SUCCESS
    pickle.loads((tmp_path / "pickle.safetensors").read_bytes())  # noqa: S301 - shows that the payload would have run
    assert (tmp_path / "executed").exists()
