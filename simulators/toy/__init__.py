"""Photographs a toy that was never there, from places that are known: for tests, measurements and the demo."""
