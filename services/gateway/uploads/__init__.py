"""Uploads: presigned URLs, completion, media check."""
