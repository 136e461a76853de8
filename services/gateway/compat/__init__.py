"""The routes of the systems that Saccade replaces."""
