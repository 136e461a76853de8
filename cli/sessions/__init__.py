"""The ``saccade sessions`` commands: list, replay and export live sessions."""
