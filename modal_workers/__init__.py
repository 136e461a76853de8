"""Workers, each in a folder of its own, and the runtime they run inside. Modal imports this file everywhere."""
