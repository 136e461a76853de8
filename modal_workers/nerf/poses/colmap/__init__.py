"""COLMAP: its files, its database, and pycolmap in a process of its own."""
