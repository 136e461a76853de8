"""Streams of the bus, as operators see them."""
