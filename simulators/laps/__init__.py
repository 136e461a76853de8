"""Renders laps of invented circuits from a driver's camera, so that the true time at every place is known."""
