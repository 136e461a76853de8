"""Figures of a match: distance, speed, zones, heat maps, coverage, rallies."""
