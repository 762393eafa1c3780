"""Agents, by family: `rlcore.agents.integral_rl`, `rlcore.agents.martingale`."""
