"""Semantic segmentation: data, FCN, inference."""
