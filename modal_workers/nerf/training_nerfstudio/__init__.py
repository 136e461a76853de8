"""Third stage with the backend nerfstudio: trains nerfacto, in an image of its own."""
