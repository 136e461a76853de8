"""Requests for erasures, and their reports."""
