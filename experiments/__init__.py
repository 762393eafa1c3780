"""Experiments: one file per result; the only place that names both an environment and an agent."""
