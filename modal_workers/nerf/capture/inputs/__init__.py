"""The photos as sent: uploads, archives and videos are read into single images."""
