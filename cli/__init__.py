"""The ``saccade`` command: starts the embedded system and talks to any server over its public API."""
