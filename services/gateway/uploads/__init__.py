"""Uploads: presigned URLs, completion, check of the media."""
