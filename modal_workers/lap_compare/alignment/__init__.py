"""Alignment of two clips by place: time warping, camera mount, confidence."""
