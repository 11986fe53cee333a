"""Data for training: real pairs, synthetic scenes, augmentation."""
