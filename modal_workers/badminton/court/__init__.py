"""The court: its dimensions, its place in the picture, and the stretches in which the camera stands still."""
