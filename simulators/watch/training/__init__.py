"""Training of the model ``tiny`` of modal_workers/vision_stream on the scenes."""
