"""The course of a match: rallies, shots, the shuttle's flight, and how players move over the floor."""
