"""Files of the model ``tiny``: trained by simulators/watch/training, described in README.md."""
