"""The engines, which report on their use over the network when nobody keeps them from it, leave and send nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Loads an engine as the nodes do, up to the environment that its first session makes.
LOAD = """
import os, sys
from mmkd_ros.inference.backends.backend import import_engine
engine = sys.argv[1]
package = import_engine(engine)
if engine == "onnxruntime":
    try:
        package.InferenceSession(b"no graph", providers=["CPUExecutionProvider"])
    except Exception as error:
        print(type(error).__name__)
else:
    package.Core()
print("open:", *[os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")
                 if os.path.islink(f"/proc/self/fd/{n}")])
"""


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_an_engine_reports_nothing(engine: str, tmp_path: Path) -> None:
    """No client id, no data base of events, no socket: what both keep in the home before they send."""
    pytest.importorskip(engine, reason=f"needs {engine}: `pip install --no-deps -r requirements/backends.txt`")
    names = ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "CI")
    environment = {name: value for name, value in os.environ.items() if name not in names} | {"HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", LOAD, engine], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert "open:" in done.stdout and "socket:" not in done.stdout and "onnxruntime.db" not in done.stdout
    assert list(tmp_path.rglob("*")) == []
