"""The shells around the core: messages in, arrays through, messages out. The only package that imports ROS."""
