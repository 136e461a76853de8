"""Live session without vision: it records the frames that it gets, at a set speed."""
