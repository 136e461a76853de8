"""Tests of the console in Chromium, over the whole embedded system."""
