"""Environments that pay a proxy, know the true reward, and can be hacked."""
