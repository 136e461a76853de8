"""Hits and rallies."""
