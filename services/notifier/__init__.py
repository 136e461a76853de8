"""Tells whoever listens what happens: every stored event, in order, once, however slow or absent the others are."""
