"""Live sessions: open, list, read, stop, reset."""
