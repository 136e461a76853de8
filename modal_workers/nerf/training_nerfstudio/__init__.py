"""The third stage with the backend nerfstudio: nerfacto is fitted to the photos, in an image of its own."""
