"""Helpers of the tests of replays."""
