"""The fourth stage with the backend nerfstudio: the orbit's frames drawn by nerfacto, in an image of its own."""
