"""Semantic segmentation: a fully convolutional network on a backbone, and how good it is."""
