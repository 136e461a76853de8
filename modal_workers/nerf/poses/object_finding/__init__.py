"""Finds the object of a capture from its cameras and sparse points, and says how sure it is."""
