"""The backend nerfstudio: its commands, its training and its rendering, run in a Python environment of its own."""
