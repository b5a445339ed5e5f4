"""Options of the commands: frozen dataclasses that define both flags and Python arguments."""
