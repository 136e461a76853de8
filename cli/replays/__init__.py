"""Commands of replays: plan and start one, follow it, write it into a file, pause, resume, cancel."""
