"""Simulators with ground truth, for demos, tests and measurements."""
