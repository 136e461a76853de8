"""The videos: the processed match, clips of rallies, play only, and the plain copy for the report."""
