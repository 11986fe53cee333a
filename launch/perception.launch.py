"""RGB-thermal detection and tracking: ``ros2 launch mmkd_ros perception.launch.py rgb_topic:=... thermal_topic:=...``

``--show-args`` lists the arguments. Which nodes run and how they are connected is decided in ``mmkd_ros.wiring`` and
``mmkd_ros.rigs``, which ``mmkd-perception`` uses as well.
"""

from __future__ import annotations

import os
from dataclasses import fields

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable, Shutdown
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode, Node
from launch_ros.substitutions import FindPackageShare

from mmkd_ros.distribution import PROFILE
from mmkd_ros.own_ports import OWN_PORTS
from mmkd_ros.rigs import system_nodes
from mmkd_ros.wiring import NodePlan, PerceptionOptions

PACKAGE = "mmkd_ros"
OPTIONS = [item.name for item in fields(PerceptionOptions)]


def generate_launch_description() -> LaunchDescription:
    """Arguments, environment, nodes and, on request, RViz."""
    config = PathJoinSubstitution([FindPackageShare(PACKAGE), "config"])
    arguments: list[LaunchDescriptionEntity] = []
    for item in fields(PerceptionOptions):
        default = str(item.default).lower() if isinstance(item.default, bool) else item.default
        if item.name == "params_file":
            default = PathJoinSubstitution([config, "perception.yaml"])
        arguments.append(
            DeclareLaunchArgument(
                item.name,
                default_value=default,
                description=item.metadata["description"],
                choices=["true", "false"] if isinstance(item.default, bool) else item.metadata["choices"] or None,
            )
        )
    # Camera images do not fit the shared-memory segment that Fast DDS makes by default. A user's own file wins.
    profile: list[LaunchDescriptionEntity] = []
    if not os.environ.get(PROFILE):
        profile.append(SetEnvironmentVariable(PROFILE, PathJoinSubstitution([config, "fastdds_shm.xml"])))
    return LaunchDescription(
        [
            *arguments,
            DeclareLaunchArgument(
                "rviz",
                default_value="false",
                description="open RViz (package rviz2) with the overlay; start it together with overlay:=true",
                choices=["true", "false"],
            ),
            *profile,
            OpaqueFunction(function=_nodes),
            Node(
                package="rviz2",
                executable="rviz2",
                name="rviz",
                namespace=LaunchConfiguration("namespace"),
                arguments=["-d", PathJoinSubstitution([config, "perception.rviz"])],
                # The file says /overlay; a relative name follows the namespace.
                remappings=[("/overlay", "overlay")],
                condition=IfCondition(LaunchConfiguration("rviz")),
            ),
        ]
    )


def _nodes(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The nodes, once the arguments are known: an empty one must leave the parameter file its say."""
    options = PerceptionOptions.from_text({name: LaunchConfiguration(name).perform(context) for name in OPTIONS})
    return [_node(plan, options) for plan in system_nodes(options)]


def _node(plan: NodePlan, options: PerceptionOptions) -> Node:
    action = LifecycleNode if plan.lifecycle else Node
    return action(
        package=PACKAGE,
        executable=plan.name,
        name=plan.node_name,
        namespace=plan.namespace,
        parameters=[options.params_file, dict(plan.parameters)] if plan.parameters else [options.params_file],
        remappings=list(plan.remaps.items()),
        ros_arguments=["--log-level", options.log_level],
        output="screen",
        emulate_tty=True,
        respawn=options.respawn and not plan.ends_all,
        respawn_delay=0.2,
        additional_env={OWN_PORTS: "1"} if options.respawn else None,
        on_exit=Shutdown(reason=f"{plan.name} is done") if plan.ends_all else None,
    )
