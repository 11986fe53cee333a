"""Several RGB-thermal heads from one file: ``ros2 launch mmkd_ros rig.launch.py rig:=/path/to/rig.yaml``

``config/rig_example.yaml`` shows the file. All other arguments are those of ``perception.launch.py`` and hold for every
head; ``--show-args`` lists them. ``shared_detector:=true`` starts one detection node for all heads.
"""

from __future__ import annotations

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare


def generate_launch_description() -> LaunchDescription:
    """The rig's file, and the launch file that starts its heads."""
    perception = PathJoinSubstitution([FindPackageShare("mmkd_ros"), "launch", "perception.launch.py"])
    return LaunchDescription(
        [
            DeclareLaunchArgument("rig", description="YAML file of the RGB-thermal heads"),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource([perception]),
                launch_arguments={"rig": LaunchConfiguration("rig")}.items(),
            ),
        ]
    )
