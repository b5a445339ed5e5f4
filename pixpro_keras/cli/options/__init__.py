"""Flags: groups of options, the checks and objects that need them alone, parsing and presets."""
