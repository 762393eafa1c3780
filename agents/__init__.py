"""Agents, by family: `rlcore.agents.actor_critic`, `integral_rl`, `martingale`, `nash`, `orpo`."""
