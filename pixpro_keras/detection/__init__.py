"""Object detection and instance segmentation: data, models, metrics, serving."""
