"""Transcript of a vision stream: JSON lines, WebVTT and a self-contained page."""
