"""The whole rollout as one CUDA graph: the compiled chunks recorded once, replayed with another seed, state and step.

Everything that a replay reads stands in buffers of its own: the state, the rows, the seed's words, the step. Nothing
waits for the device on the way, so fresh initial states are drawn for every step. Results are copied out at the end.
Written for a GPU and not yet run on one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rlcore.simulation.compiled import Chunks, Given, by_columns, fresh_states
from rlcore.simulation.drawn import draw
from rlcore.simulation.environment import Environment, EnvState
from rlcore.simulation.noise import Stream, words
from rlcore.simulation.policy import Policy
from rlcore.simulation.stepping import Record, RolloutState, Step, restarts

WARM_UP = 3
KEPT = 8
"""Recorded rollouts that are kept; each holds a copy of its result."""


class Captured:
    """One recorded rollout of a fixed number of steps."""

    def __init__(
        self,
        step: Step,
        env: Environment,
        policy: Policy,
        start: RolloutState,
        steps: int,
        action_width: int,
        out: Record,
    ) -> None:
        self.step, self.env, self.policy, self.steps, self.width = step, env, policy, steps, action_width
        self.state = (start.env.t.clone(), by_columns(start.env.x))
        self.row = start.row.clone()
        word = torch.zeros((), dtype=torch.int64, device=env.device)
        self.key = (word, word.clone())
        self.at = torch.zeros((), dtype=torch.int64, device=env.device)  # control steps since the rows began
        self.out = {name: torch.zeros_like(value) for name, value in out.items()}
        self.end: tuple[Tensor, Tensor] = self.state
        self.set(start)
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                self.play(start)
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.end = self.play(start)

    def set(self, start: RolloutState) -> None:
        """Where the next replay begins."""
        self.state[0].copy_(start.env.t)
        self.state[1].copy_(start.env.x)
        self.row.copy_(start.row)
        self.at.fill_(start.step)
        for word, value in zip(self.key, words(start.seed), strict=True):
            word.fill_(value)

    def noise(self, stream: Stream, first: int, count: int, width: int, phase: int) -> Tensor:  # -> [count, B, width]
        """As `stepping.noise_of`, from the step on the device; `phase` is its place within a block."""
        if width == 0:
            return torch.zeros(count, len(self.row), 0, dtype=self.env.dtype, device=self.env.device)
        skip = (phase + first * width) % 4
        block = ((self.at + first) * width) // 4
        label = torch.full_like(self.at, int(stream))
        drawn = draw(self.key, self.row, label, block, (skip + count * width + 3) // 4, self.env.dtype)
        return drawn[skip : skip + count * width].view(count, width, -1).transpose(1, 2)

    def play(self, start: RolloutState) -> tuple[Tensor, Tensor]:
        """The rollout itself, as it is recorded."""
        env, spec = self.env, self.env.spec
        run = Chunks(self.step, env, self.policy, len(self.row), self.steps, self.width, self.out)
        size, (t, x) = run.size, self.state
        over = env.terminated(EnvState(t, x)) if env.terminates else None
        renews = restarts(self.step, env)

        def phase(width: int) -> int:
            return start.step * width % 4

        for k in range(0, self.steps, size):
            count = min(size, self.steps - k)
            fresh_t = fresh_x = None
            if renews:
                width = spec.initial_noise_dim
                fresh_t, fresh_x = fresh_states(env, self.noise(Stream.INITIAL, k + 1, size, width, phase(width)))
            z, v = (
                self.noise(stream, k, size, width, phase(width))
                for stream, width in ((Stream.PROCESS, env.step_noise_dim), (Stream.ACTION, self.width))
            )
            left = torch.full((), count, device=env.device) if run.partial else None
            t, x, over = run(Given(t, x, over, z, v if self.width else None, fresh_t, fresh_x, left), k, count)
        return t, x


CAPTURED: dict[tuple[Any, ...], Captured] = {}


@torch.no_grad()
def run_captured(
    step: Step, env: Environment, policy: Policy, start: RolloutState, steps: int, action_width: int, out: Record
) -> EnvState:
    """As `run_compiled`, by one replay. A recording belongs to these very objects: it reads their tensors in place."""
    key = (step, id(env), id(policy), start.batch, steps, action_width, start.step % 4)
    if key not in CAPTURED:
        if len(CAPTURED) == KEPT:
            del CAPTURED[next(iter(CAPTURED))]
        CAPTURED[key] = Captured(step, env, policy, start, steps, action_width, out)
    captured = CAPTURED[key]
    captured.set(start)
    captured.graph.replay()
    for name, value in out.items():
        value.copy_(captured.out[name])
    return EnvState(*(part.clone() for part in captured.end))
