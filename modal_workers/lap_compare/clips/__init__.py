"""Clips: decoding, feature extraction, vehicle detection."""
