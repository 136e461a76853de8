"""Laps of generated circuits, rendered from a driver's camera, with the true time at every place."""
