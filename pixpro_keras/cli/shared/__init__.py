"""Parts that several commands share: start and end, training, comparison, reports of results."""
