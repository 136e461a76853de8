"""The second stage: where each photo was taken from."""
