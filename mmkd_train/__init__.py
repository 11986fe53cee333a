"""The workshop beside ``mmkd_ros``: training, evaluation, synthetic scenes, recordings. Never imported by the robot."""
