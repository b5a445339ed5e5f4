"""Augmentation of images: crops, colours, blur, puzzles."""
