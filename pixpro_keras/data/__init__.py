"""Two augmented views of each image, with the coordinates of their crops."""
