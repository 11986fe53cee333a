"""An ament_python package: colcon and pip both install it from here."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = "mmkd_ros"
ROOT = Path(__file__).resolve().parent
TEACHER = "mmkd_teacher.safetensors"  # for training from a checkout; no robot needs it
NODES = ("detection_node", "tracker_node", "overlay_node", "replay_node", "recorder_node", "composed_node")


def share_files() -> list[tuple[str, list[str]]]:
    """(directory below the prefix, files) of the ament index marker and of everything that share/ holds."""
    files = [
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
    ]
    for folder in ("launch", "config", "models"):
        for directory in (ROOT / folder, *sorted((ROOT / folder).rglob("*/"))):
            here = (path for path in directory.glob("*") if path.is_file() and path.name != TEACHER)
            found = sorted(str(path.relative_to(ROOT)) for path in here)
            if found and directory.name != "__pycache__":
                files.append((f"share/{PACKAGE}/{directory.relative_to(ROOT)}", found))
    return files


setup(
    name=PACKAGE,
    version=ElementTree.parse(ROOT / "package.xml").findtext("version"),  # noqa: S314 (our own file)
    description="RGB-thermal object detection and tracking for ROS 2",
    license="Apache-2.0",
    maintainer="mmkd_ros maintainers",
    maintainer_email="mmkd_ros@example.com",
    packages=find_packages(include=["mmkd_ros", "mmkd_ros.*", "mmkd_train", "mmkd_train.*"]),
    python_requires=">=3.10",
    install_requires=[
        "setuptools",
        "numpy>=1.21",
        "scipy>=1.8",
        "opencv-python-headless>=4.5.4,<5",
        "PyYAML",
        "safetensors",
        "rosbags",
    ],
    extras_require={
        "torch": ["torch>=2.4", "torchvision", "timm>=1.0"],
        "onnxruntime": ["onnxruntime"],
        "openvino": ["openvino"],
        "train": ["accelerate", "dacite", "pycocotools", "tqdm"],
        "completion": ["argcomplete>=3"],
    },
    data_files=share_files(),
    zip_safe=False,
    entry_points={
        "console_scripts": [
            *(f"{node} = {PACKAGE}.nodes.{node}:main" for node in NODES),
            f"mmkd-perception = {PACKAGE}.nodes.perception:main",
            f"mmkd-doctor = {PACKAGE}.doctor.__main__:main",
        ]
    },
)
