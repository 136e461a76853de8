"""The players: detection, identity, motion."""
