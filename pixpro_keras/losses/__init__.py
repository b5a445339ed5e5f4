"""Losses: pure functions, tensors in, float32 scalar out."""
