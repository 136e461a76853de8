"""Videos from a moving car: descriptors of their frames, which are alike at the same place."""
