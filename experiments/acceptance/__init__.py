"""The rows of `rlcore verify`, one module per system."""
