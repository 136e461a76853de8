"""Reverse proxy in front of an S3 server that answers range requests wrongly."""
