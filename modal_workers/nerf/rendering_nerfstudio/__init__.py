"""Fourth stage with the backend nerfstudio: renders the frames with nerfacto, in an image of its own."""
