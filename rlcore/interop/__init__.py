"""Adapters at the edge: Gymnasium and Stable-Baselines3."""
