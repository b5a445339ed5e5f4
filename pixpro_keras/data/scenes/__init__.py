"""The embedded data set: scenes drawn by the package."""
