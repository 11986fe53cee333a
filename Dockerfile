# The perception system on the official ROS 2 Jazzy image:
#   docker build -t mmkd_ros .
#   docker run --rm --shm-size 1g --network host --ipc host mmkd_ros ros2 launch mmkd_ros perception.launch.py rgb_topic:=... thermal_topic:=...
# docs/installation.md tells what the options are for; a test compares the packages with package.xml.
FROM ros:jazzy-ros-base

# The keys of package.xml as rosdep resolves them on Ubuntu 24.04.
RUN apt-get update && apt-get install --yes --no-install-recommends \
    python3-colcon-common-extensions \
    python3-numpy \
    python3-opencv \
    python3-pip \
    python3-scipy \
    python3-yaml \
    ros-jazzy-cv-bridge \
    ros-jazzy-diagnostic-msgs \
    ros-jazzy-launch \
    ros-jazzy-launch-ros \
    ros-jazzy-lifecycle-msgs \
    ros-jazzy-message-filters \
    ros-jazzy-rcl-interfaces \
    ros-jazzy-rclpy \
    ros-jazzy-rosgraph-msgs \
    ros-jazzy-sensor-msgs \
    ros-jazzy-std-msgs \
    ros-jazzy-std-srvs \
    ros-jazzy-vision-msgs \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /ws
# torch wants setuptools 77 or newer, colcon one before 80; Ubuntu has 68.
COPY requirements/not_in_rosdep.txt requirements/
RUN pip install --no-cache-dir --break-system-packages setuptools==79.0.1 -r requirements/not_in_rosdep.txt

COPY . src/mmkd_ros
RUN . /opt/ros/jazzy/setup.sh && colcon build --packages-select mmkd_ros

ENTRYPOINT ["/bin/bash", "-c", "source /ws/install/setup.bash && exec \"$@\"", "--"]
CMD ["ros2", "launch", "mmkd_ros", "perception.launch.py"]
