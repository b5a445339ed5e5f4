"""Options of the commands: one frozen dataclass a group, from which flags and Python arguments come alike."""
