"""Pictures of a pre-training run."""
