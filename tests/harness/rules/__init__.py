"""Uploads, rules and dispatchers that apply them."""
