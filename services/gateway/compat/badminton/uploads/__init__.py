"""Uploads whose bytes pass through the gateway."""
