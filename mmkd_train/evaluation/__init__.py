"""What ``python -m mmkd_train evaluate`` measures, prints and draws of the detections in a set."""
