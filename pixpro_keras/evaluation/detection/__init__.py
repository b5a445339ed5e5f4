"""Object detection and instance segmentation: two-stage detectors, and how good they are."""
