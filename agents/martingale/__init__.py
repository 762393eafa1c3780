"""Martingale methods of Jia and Zhou: policy evaluation and q-learning in continuous time."""
