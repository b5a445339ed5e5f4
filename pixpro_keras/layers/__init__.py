"""Layers of the pre-training heads."""
