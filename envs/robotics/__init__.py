"""Robots of other libraries in physical time; each needs the extra `robotics`."""
