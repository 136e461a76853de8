"""Workers, each in a folder of its own, and the runtime they run inside; part of every Modal image."""
