"""Segmentation of the object from its background, in splats and in pixels."""
