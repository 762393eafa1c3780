"""Agents, by family: `rlcore.agents.martingale`."""
