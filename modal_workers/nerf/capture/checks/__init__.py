"""The pre-flight checks: image quality, overlap of the photos, and the verdict."""
