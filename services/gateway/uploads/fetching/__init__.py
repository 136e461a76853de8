"""Uploads whose bytes the server fetches from a URL."""
