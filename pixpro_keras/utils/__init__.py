"""Small helpers: files that survive a crash, checksums, argument checks, event files."""
