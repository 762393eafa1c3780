"""The hot loop: batched rollouts of pure environments.

Noise is drawn for a chunk of steps at once, and every number of it depends only on (seed, row, step): a path is the
same whatever the batch it runs in and however the steps are split over calls. The step is one function
(`stepping.py`); the mode says how it is carried out, and modes agree to rounding.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlcore.data.batches import Trajectory, Transitions
from rlcore.errors import ConfigError
from rlcore.simulation.environment import Environment
from rlcore.simulation.modes import Mode, check_memory, choose, runner
from rlcore.simulation.policy import Policy
from rlcore.simulation.results import empty
from rlcore.simulation.stepping import Record, RolloutState, absorbing, begin, restarting, restarts

APART = 16
"""Numbers between the columns of a batch of a multiple of 1024 paths, which would else meet in one set of the cache."""

__all__ = ["Mode", "RolloutState", "begin", "rollout", "rollout_with_reset"]


@torch.no_grad()
def rollout(
    env: Environment,
    policy: Policy,
    start: RolloutState,
    steps: int,
    *,
    deterministic: bool = False,
    mode: Mode = "eager",
) -> tuple[Trajectory, RolloutState]:
    """Whole paths over `steps` control steps, without reset: K steps, B paths -> Trajectory [K, B, ...].

    All rows must stand at the same time. `deterministic` asks the policy for its deterministic action.
    """
    asked, mode = mode, check(env, start, steps, mode, env.spec.observation_dim + env.spec.action_dim + 1, 1)
    spec, batch, state = env.spec, start.batch, start.env
    if bool((state.t != state.t[0]).any()):
        raise ConfigError(
            "rollout needs all paths at the same time; use rollout_with_reset for paths that restart apart"
        )
    t = torch.empty(steps + 1, dtype=torch.float64, device=env.device)
    obs = storage(env, mode, steps + 1, batch, spec.observation_dim)
    action = storage(env, mode, steps, batch, spec.action_dim)
    reward = empty((steps, batch), env.dtype, env.device)
    terminated = torch.zeros(steps, batch, dtype=torch.bool, device=env.device)
    t[0], obs[0] = state.t[0], env.observe(state)
    out = {"t": t[1:], "obs": obs[1:], "action": action, "reward": reward, "terminated": terminated}
    width = 0 if deterministic else policy.noise_dim
    last = runner(mode, may_fall_back=asked == "auto")(absorbing, env, policy, start, steps, width, out)
    dt = torch.full((steps,), spec.dt, dtype=torch.float64, device=env.device)
    return Trajectory(t, obs, action, reward, dt, terminated), start._replace(env=last, step=start.step + steps)


@torch.no_grad()
def rollout_with_reset(
    env: Environment,
    policy: Policy,
    start: RolloutState,
    steps: int,
    *,
    deterministic: bool = False,
    mode: Mode = "eager",
) -> tuple[Transitions, RolloutState]:
    """`steps` control steps in which finished rows start anew -> Transitions [K, B, ...].

    A row is finished when it terminates or reaches the horizon; `extras["last"]` marks its last step. `next_obs` stays
    the true one, and only a termination sets the discount to 0. `extras["t"]` is the time since the episode began [s],
    at the start of the step, and `extras["true_reward"]` is there if the environment has a true reward.
    """
    spec, batch, shape = env.spec, start.batch, (steps, start.batch)
    floats = 2 * spec.observation_dim + spec.action_dim + 2 + env.terminates + env.has_true_reward
    asked, mode = mode, check(env, start, steps, mode, floats, 2)
    obs, next_obs = (storage(env, mode, steps, batch, spec.observation_dim) for _ in range(2))
    action = storage(env, mode, steps, batch, spec.action_dim)
    reward, since = (empty(shape, env.dtype, env.device) for _ in range(2))
    never = torch.zeros(1, 1, dtype=torch.bool, device=env.device).expand(shape)
    terminated = empty(shape, torch.bool, env.device) if env.terminates else never
    last = empty(shape, torch.bool, env.device) if restarts(restarting, env) else never
    out: Record = {"obs": obs, "action": action, "reward": reward, "next_obs": next_obs}
    out |= {"terminated": terminated, "last": last, "since": since}
    extras = {"last": last, "t": since}
    if env.has_true_reward:
        out["true_reward"] = extras["true_reward"] = empty(shape, env.dtype, env.device)
    width = 0 if deterministic else policy.noise_dim
    end = runner(mode, may_fall_back=asked == "auto")(restarting, env, policy, start, steps, width, out)
    dt = reward.new_full((1, 1), spec.dt).expand(shape)  # one number in memory
    discount = torch.exp(-spec.discount_rate * dt[:1, :1])
    discount = torch.where(terminated, 0.0, discount) if env.terminates else discount.expand(shape)
    batch_of_steps = Transitions(obs, action, reward, discount, next_obs, dt, extras)
    return batch_of_steps, start._replace(env=end, step=start.step + steps)


def check(env: Environment, start: RolloutState, steps: int, mode: Mode, floats: int, flags: int) -> Mode:
    """Raise where the rollout cannot be; which mode it is."""
    if steps < 1:
        raise ConfigError(f"steps must be at least 1, got {steps}")
    mode = choose(mode, env, start.batch, steps)
    check_memory(env, start.batch, steps, floats * env.dtype.itemsize + flags, mode)
    return mode


def storage(env: Environment, mode: Mode, steps: int, batch: int, width: int) -> Tensor:
    """Room for [K, B, width]. Compiled modes keep each component together in memory, as their registers do."""
    if mode == "eager":
        return empty((steps, batch, width), env.dtype, env.device)
    apart = batch + (APART if batch % 1024 == 0 else 0)
    return empty((steps, width, apart), env.dtype, env.device)[..., :batch].transpose(1, 2)
