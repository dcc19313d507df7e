"""The published networks of ZoomLDM and its parents, with the tensor names of their checkpoints."""
