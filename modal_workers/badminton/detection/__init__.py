"""The pass over all frames that finds persons and shuttle candidates."""
