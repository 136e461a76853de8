"""The fourth stage, fanned out: the orbit's frames, transparent around the object."""
