"""Joints of persons over time."""
