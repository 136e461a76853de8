"""Words of sessions that describe video: texts and alerts, questions about the video, the request to stop a text."""
