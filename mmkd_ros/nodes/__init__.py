"""The shells around the core: messages in, arrays through, messages out. The only package that imports ROS."""

from mmkd_ros.nodes.interrupt import end_while_importing

# Here, since all that takes time to import comes after it.
end_while_importing()
