"""The system as ``ros2 launch`` starts it, fed by a looping recording; each process is killed and must come back.

For ``launch_test``, which ROS has in the package launch_testing; ``test_launch_testing.py`` runs it where that is::

    launch_test test/system/launch_perception.py recording:=BAG weights:=FILE params_file:=FILE
"""

from __future__ import annotations

import os
import signal
import sys
import time
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "nodes")]

from cameras import Watch  # noqa: E402
from launch import LaunchDescription  # noqa: E402
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription  # noqa: E402
from launch.launch_description_sources import PythonLaunchDescriptionSource  # noqa: E402
from launch.substitutions import LaunchConfiguration  # noqa: E402
from launch_ros.actions import Node  # noqa: E402
from launch_testing import post_shutdown_test  # noqa: E402
from launch_testing.actions import ReadyToTest  # noqa: E402
from launch_testing.asserts import assertExitCodes  # noqa: E402
from node_bench import PATIENCE_S, Bench  # noqa: E402

OUTPUTS = {"detection_node": "detections", "tracker_node": "tracks", "replay_node": "tracks"}


def generate_test_description() -> LaunchDescription:
    """The shipped launch file with ``respawn``, and a source that is started again too."""
    perception = str(HERE.parents[1] / "launch" / "perception.launch.py")
    chosen = [(name, LaunchConfiguration(name)) for name in ("weights", "params_file")]
    source = {"bag": LaunchConfiguration("recording"), "loop": True, "wait_for_subscribers_s": 60.0}
    return LaunchDescription(
        [
            *(DeclareLaunchArgument(name) for name in ("recording", "weights", "params_file")),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(perception), launch_arguments=[*chosen, ("respawn", "true")]
            ),
            Node(package="mmkd_ros", executable="replay_node", parameters=[source], respawn=True, output="screen"),
            ReadyToTest(),
        ]
    )


class TestSystem(unittest.TestCase):
    """While everything runs."""

    def setUp(self) -> None:
        self.bench = Bench(int(os.environ["ROS_DOMAIN_ID"]))
        self.watches = {topic: Watch(self.bench, topic) for topic in ("detections", "tracks")}

    def tearDown(self) -> None:
        self.bench.close()

    def test_what_is_killed_comes_back(self, proc_info: Any) -> None:
        for watch in self.watches.values():
            self.wait(lambda: len(watch.outputs) > 5, "outputs")  # noqa: B023
        for victim, topic in OUTPUTS.items():
            killed = proc_info[victim].pid
            os.kill(killed, signal.SIGKILL)
            self.wait(lambda: getattr(proc_info[victim], "pid", killed) != killed, f"a new {victim}")  # noqa: B023
            since = time.monotonic() + 0.5  # until then comes what was on its way
            self.wait(lambda: self.watches[topic].since(since), f"{topic} after the death of {victim}")  # noqa: B023

    def wait(self, condition: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            self.assertLess(time.monotonic(), deadline, f"waited {PATIENCE_S:.0f} s in vain for {what}")
            time.sleep(0.02)


@post_shutdown_test()
class TestAfterwards(unittest.TestCase):
    """When launch has sent its SIGINT."""

    def test_all_end_in_good_order(self, proc_info: Any) -> None:
        assertExitCodes(proc_info)
