"""The training loop: strategies, checkpoints, callbacks."""
