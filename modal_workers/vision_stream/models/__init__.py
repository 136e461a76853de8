"""Models behind one protocol (model.py), each in a backend of its own."""
