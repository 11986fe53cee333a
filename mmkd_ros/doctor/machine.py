"""Checks of Python, the packages beside ROS, the processor, and the weights."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

from mmkd_ros.doctor.finding import Finding, Section, fail, ok, warn
from mmkd_ros.imaging import PLAIN_ENCODINGS
from mmkd_ros.processes import ros_environment
from mmkd_ros.share import PACKAGE, share_path

CGROUP = Path("/sys/fs/cgroup")
NVIDIA_DEVICE = Path("/dev/nvidiactl")

_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)\s*(?P<range>[^;]*?)\s*(?:;\s*(?P<marker>.*))?")
_LIMIT = re.compile(r"(>=|<)\s*([0-9]+(?:\.[0-9]+)*)")
_OPENCV = ("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python")
_TRIAL_S = 60.0


def satisfies(version: str, limits: str) -> bool:
    """Whether a version is within limits such as ``<5,>=4.6``; only its leading numbers count (2.13.0 of 2.13.0+cpu).

    Raises:
        ValueError: limits of another kind.
    """
    have = _numbers(version)
    for limit in filter(None, (part.strip() for part in limits.split(","))):
        match = _LIMIT.fullmatch(limit)
        if match is None:
            raise ValueError(f"The version limit '{limit}' is not understood.")
        number = _numbers(match[2])
        if not (have >= number if match[1] == ">=" else have < number):
            return False
    return True


def requirements() -> dict[str, str]:
    """Version limits by distribution, as this package's metadata state them; without those of training.

    Raises:
        importlib.metadata.PackageNotFoundError: the package runs without being installed.
    """
    found = {}
    for line in importlib.metadata.requires(PACKAGE) or []:
        match = _REQUIREMENT.fullmatch(line)
        if match is None:
            raise ValueError(f"The requirement '{line}' is not understood.")
        if not match["marker"] or '"torch"' in match["marker"]:
            found[match["name"]] = match["range"]
    return found


def check_python() -> Finding:
    """The interpreter against the package's own metadata."""
    version = ".".join(str(number) for number in sys.version_info[:3])
    try:
        limits = importlib.metadata.metadata(PACKAGE)["Requires-Python"] or ""
    except importlib.metadata.PackageNotFoundError:  # which check_packages says
        limits = ""
    found = f"{version} at {sys.executable} (needs {limits or 'any'})"
    if satisfies(version, limits):
        return ok("python", found)
    return fail("python", found, "Use Python 3.11 or 3.12, the versions of the tests.", Section.VERSIONS)


def check_packages() -> Finding:
    """The installed distributions against the package's own metadata."""
    try:
        wanted = requirements()
    except importlib.metadata.PackageNotFoundError:
        return warn(
            "packages",
            f"{PACKAGE} is not installed into this Python, so its requirements are unknown",
            "Install it with `pip install .`, or build it with colcon and source install/setup.bash.",
            Section.VERSIONS,
        )
    installed = {name: _version(name) for name in wanted}
    wrong = {name: v for name, v in installed.items() if v is None or not satisfies(v, wanted[name])}
    if not wrong:
        return ok("packages", ", ".join(f"{name} {version}" for name, version in installed.items()))
    listed = ", ".join(f"{n} {v or 'is missing'} (needs {wanted[n] or 'any'})" for n, v in wrong.items())
    names = " ".join(f'"{name}{wanted[name]}"' for name in wrong)
    return fail("packages", listed, f"Install them: {sys.executable} -m pip install {names}.", Section.VERSIONS)


def check_cv_bridge() -> Finding:
    """A conversion by cv_bridge, in a process of its own: built for another numpy it may take the process along."""
    if importlib.util.find_spec("cv_bridge") is None:
        return ok("cv_bridge", f"absent; images in {', '.join(PLAIN_ENCODINGS)} are read without it")
    done = subprocess.run(  # noqa: S603 (our own interpreter)
        [sys.executable, "-m", "mmkd_ros.nodes.cv_bridge_trial"],
        env=ros_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=_TRIAL_S,
    )
    numpy = _version("numpy")
    if done.returncode == 0:
        return ok("cv_bridge", f"works beside numpy {numpy}")
    return warn(
        "cv_bridge",
        f"fails beside numpy {numpy}: {last_line(done.stderr) or f'exit code {done.returncode}'}",
        'Give it the numpy it was built for (`pip install "numpy<2"` for Jazzy on Ubuntu 24.04), or publish one of '
        f"{', '.join(PLAIN_ENCODINGS)}, which are read without it.",
        Section.CV_BRIDGE,
    )


def check_opencv() -> Finding:
    """OpenCV decodes what CompressedImage carries, and is installed once."""
    import cv2
    import numpy as np

    doubled = [name for name in _OPENCV if _distribution_version(name)]
    if len(doubled) > 1:
        return warn(
            "opencv",
            f"{' and '.join(doubled)} are installed over each other",
            f"Uninstall all of them, then install {_OPENCV[0]} alone.",
            Section.OPENCV,
        )
    for suffix, dtype in ((".jpg", np.uint8), (".png", np.uint16)):
        image = np.full((16, 16), 100, dtype)
        decoded = cv2.imdecode(cv2.imencode(suffix, image)[1], cv2.IMREAD_UNCHANGED)
        if decoded is None or not np.array_equal(decoded, image):
            return fail(
                "opencv",
                f"OpenCV {cv2.__version__} does not give back a {suffix} image",
                f"Install a build with JPEG and PNG: pip install {_OPENCV[0]}.",
                Section.OPENCV,
            )
    return ok("opencv", f"{cv2.__version__}, reads JPEG and 16-bit PNG")


def check_torch() -> Finding:
    """torch, whether it sees the GPU, and whether float16 works there."""
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a library of CUDA is missing
        cure = f"{sys.executable} -m pip install -r requirements/not_in_rosdep.txt installs it."
        engines = [name for name in ("onnxruntime", "openvino") if importlib.util.find_spec(name) is not None]
        if engines:
            found = f"cannot be imported ({error}): {' and '.join(engines)} can run an exported model, nothing else can"
            return warn("torch", found, cure, Section.TORCH)
        return fail("torch", f"cannot be imported: {error}", cure, Section.TORCH)
    if not torch.cuda.is_available():
        if not NVIDIA_DEVICE.exists():
            return ok("torch", f"{torch.__version__}, no GPU: the network runs on the CPU")
        return warn(
            "torch",
            f"torch {torch.__version__} sees no GPU, though {NVIDIA_DEVICE} is here",
            "Install a CUDA build of torch that fits the driver (nvidia-smi names its CUDA version).",
            Section.TORCH,
        )
    name = torch.cuda.get_device_name()
    try:
        ones = torch.ones(8, 8, device="cuda", dtype=torch.float16)
        if float((ones @ ones).sum()) != 512.0:
            raise RuntimeError("a product of float16 matrices is wrong")
    except RuntimeError as error:
        cure = "Install a build of torch that supports this GPU, or set the parameter device to cpu."
        return fail("torch", f"{torch.__version__} cannot work on {name}: {last_line(str(error))}", cure, Section.TORCH)
    return ok("torch", f"{torch.__version__}, {name}, float16 works")


def check_cores() -> Finding:
    """The cores that may be used against the threads that the network takes by itself (half of those it sees)."""
    cores, quota = len(os.sched_getaffinity(0)), cpu_quota()
    threads = max(1, cores // 2)
    if quota is not None and quota < threads:
        return warn(
            "cores",
            f"{cores} cores are seen, but only {quota:g} may be used, and the network would take {threads} threads",
            f"Set the parameter threads to {max(1, int(quota))}, or give the container more cores (--cpus).",
            Section.CORES,
        )
    if cores < 2:
        cure = "Give the system at least two cores, since cameras and network wait for each other on one."
        return warn("cores", "one core for the network, the tracker and the cameras", cure, Section.CORES)
    return ok("cores", f"{cores}, of which the network takes {threads} unless threads says otherwise")


def cpu_quota() -> float | None:
    """Cores that the control group grants, as in ``docker run --cpus 1.5``; None for no limit."""
    try:
        limit, period = (CGROUP / "cpu.max").read_text().split()
    except FileNotFoundError:
        try:  # version 1 of control groups
            limit, period = ((CGROUP / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        except FileNotFoundError:
            return None
    return None if limit in ("max", "-1\n") else int(limit) / int(period)


def check_weights(name: str) -> Finding:
    """A detector's file: readable, as its sha256 says, and a network that can be built (an exported one, that runs).

    Args:
        name: as the parameter ``weights``: a path, or a name in the package's models folder.
    """
    from mmkd_ros.inference import InferenceSession, WeightsError
    from mmkd_ros.inference.sealed import SUFFIXES

    cure = "Name a readable detector file with the parameter weights, or copy this one again from its source."
    try:
        path = Path(name).expanduser()
        if not path.is_file() and path.name == name:
            path = share_path(f"models/{name}")
        session = InferenceSession(path, "cpu", "auto" if path.suffix in SUFFIXES else "torch", threads=1)
    except (WeightsError, ValueError, OSError) as error:
        return fail("weights", str(error).rstrip("."), cure, Section.WEIGHTS)
    size = f"input {session.input_size[1]}x{session.input_size[0]}"
    names, digest = ", ".join(session.class_names), session.weights_sha256[:12]
    return ok("weights", f"{path}: {names}; {size}; sha256 {digest} fits")


def last_line(text: str) -> str:
    """The last line that says something: where a traceback names its error."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def _numbers(version: str) -> tuple[int, ...]:
    match = re.match(r"[0-9]+(?:\.[0-9]+)*", version)
    if match is None:
        raise ValueError(f"The version '{version}' does not begin with a number.")
    return tuple(int(number) for number in match[0].split("."))


def _version(distribution: str) -> str | None:
    """The installed version; OpenCV may come under several names, or from the system without any."""
    if distribution not in _OPENCV:
        return _distribution_version(distribution)
    try:
        import cv2
    except ImportError:
        return None
    return str(cv2.__version__)


def _distribution_version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
