"""Workloads of other libraries, run by `worker.py` in an environment of their own; nothing here imports rlcore."""
