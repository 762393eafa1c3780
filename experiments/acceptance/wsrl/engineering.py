"""What a run from offline to online keeps and what it lets go; the parts against numbers worked out by hand."""

from __future__ import annotations

import gc
import math
import tempfile
import weakref
from dataclasses import replace
from itertools import product
from pathlib import Path

import torch
from torch import nn

from rlcore.agents.actor_critic import Cql, HandOver, SacRedq, publish
from rlcore.agents.actor_critic.hand_over import weights_of
from rlcore.agents.actor_critic.wsrl import FineTuning, fine_tuning
from rlcore.experiments.acceptance.wsrl import small
from rlcore.functional import losses
from rlcore.functional.returns import returns_to_go
from rlcore.nn.ensemble import Ensemble, Layers
from rlcore.reporting.acceptance import Measurement, at_most, each_within, row
from rlcore.seeding import Streams
from rlcore.training import RolloutSource, run

SYSTEM = "wsrl"


def parity(dtype: torch.dtype) -> float:
    """Largest difference, relative to the largest entry, of a stack and its members as modules: values, gradients."""
    layers = Layers((32, 32), layer_norm=True)
    stack = Ensemble(2, 3, 9, 1, layers, generator=torch.Generator().manual_seed(0)).to(dtype)
    x = torch.randn(2, 50, 9, generator=torch.Generator().manual_seed(1)).to(dtype)
    found = stack(x)
    found.square().sum().backward()
    worst = 0.0
    for seed, member in product(range(2), range(3)):
        modules: list[nn.Module] = []
        for linear, norm in zip(stack.hidden, stack.norms, strict=True):
            modules += [module_of(linear, 3 * seed + member), nn.LayerNorm(norm.width).to(dtype), nn.ReLU()]
        alone = nn.Sequential(*modules, module_of(stack.head, 3 * seed + member))
        out = alone(x[seed])
        out.square().sum().backward()
        pairs = [(found[seed, member], out)]
        for linear, plain in zip([*stack.hidden, stack.head], list(alone)[::3], strict=True):
            gradient = linear.get_parameter("weight").grad
            pairs.append((gradient[3 * seed + member].T, plain.get_parameter("weight").grad))
        worst = max(worst, *(float((a - b).detach().abs().max() / b.detach().abs().max()) for a, b in pairs))
    return worst


def module_of(linear: nn.Module, at: int) -> nn.Linear:
    """One map of a stack as an ordinary layer."""
    weight, bias = linear.get_parameter("weight")[at].detach(), linear.get_parameter("bias")[at, 0].detach()
    made = nn.Linear(*weight.shape).to(weight.dtype)
    made.weight.data, made.bias.data = weight.T.clone(), bias.clone()
    return made


@row(SYSTEM, "E1", "stacked ensemble against modules one by one: values and gradients, float32; float64", "1e-6; 1e-12")
def stacked_parity() -> Measurement:
    single, double = parity(torch.float32), parity(torch.float64)
    return Measurement("0; 0", f"{single:.1e}; {double:.1e}", single <= 1e-6 and double <= 1e-12)


@row(SYSTEM, "E2", "CQL with and without importance, Cal-QL's bound, min then max, expectile, failed episode", "1e-6")
def losses_by_hand() -> Measurement:
    sampled, data = torch.tensor([[[[0.0], [1.0]]]]), torch.tensor([[[0.5]]])
    density = torch.log(torch.tensor([[[0.5], [0.25]]]))
    two_actions = torch.tensor([[[[1.0], [5.0]], [[4.0], [2.0]]]])
    rewards, last = torch.full((3,), -5.0, dtype=torch.float64), torch.tensor([False, False, True])
    got = [
        float(losses.conservative_gap(sampled, data, density)),
        float(losses.conservative_gap(sampled, data, None)),
        float(losses.calibrated(sampled, torch.tensor([[0.25]])).sum()),
        float(losses.best_of_least(two_actions)),
        float(losses.expectile_loss(torch.tensor([[-1.0, 2.0]]), 0.9)),
        float(returns_to_go(rewards, torch.full_like(rewards, 0.99), last, failure_reward=-5.0)[1]) / 500.0,
    ]
    e = math.e
    expected = [math.log(2 + 4 * e) - 0.5, math.log((1 + e + math.sqrt(e)) / 3) - 0.5, 1.25, 2.0, 1.85, -1.0]
    return each_within(got, expected, [1e-6] * len(got))


@row(
    SYSTEM,
    "E2-multiplier",
    "the multiplier of CQL: its change where the mean difference is above; below its gap",
    "> 0; < 0",
)
def multiplier_moves_towards_its_gap() -> Measurement:
    data, moved = small.data_set(), []
    for gap in (-100.0, 100.0):
        agent = Cql(small.env().spec, replace(small.OFFLINE, calibrate=True, gap=gap))
        before = float(agent.multiplier)
        agent.update(data)
        moved.append(float(agent.multiplier) - before)
    return Measurement("> 0; < 0", "; ".join(f"{x:.1e}" for x in moved), moved[0] > 0.0 > moved[1])


@row(
    SYSTEM, "E3", "a run stopped in warm-up or online phase and resumed: tensors that differ in any bit at the end", "0"
)
def bit_equal_resume() -> Measurement:
    giver, wrong = small.pretrained(small.data_set()), 0
    with tempfile.TemporaryDirectory() as root:
        whole = small.recorded(Path(root) / "whole", giver, stop_at=None, resume=False)
        for stop_at in (3, 20, 21, 40):
            folder = Path(root) / str(stop_at)
            try:
                small.recorded(folder, giver, stop_at=stop_at, resume=False)
            except small.StoppedError:
                wrong += small.differing(small.recorded(folder, giver, stop_at=None, resume=True), whole)
    return at_most(wrong, 0)


@row(
    SYSTEM, "E3-5k", "the same over 5000 online steps after the resume: tensors that differ in any bit", "0", slow=True
)
def bit_equal_after_long() -> Measurement:
    giver = small.pretrained(small.data_set())
    with tempfile.TemporaryDirectory() as root:
        whole, folder = Path(root) / "whole", Path(root) / "stopped"
        long = {"steps": 5100, "checkpoint_every": 100}
        expected = small.recorded(whole, giver, stop_at=None, resume=False, **long)
        try:
            small.recorded(folder, giver, stop_at=120, resume=False, **long)
        except small.StoppedError:
            return at_most(
                small.differing(small.recorded(folder, giver, stop_at=None, resume=True, **long), expected), 0
            )
    return Measurement("0", "the run was not stopped", False)


@row(
    SYSTEM, "E7", "hand-over of all, parts, with and without moments, by memory and file: tensors not as asked for", "0"
)
def hand_over_modes() -> Measurement:
    giver, wrong = small.pretrained(small.data_set()), 0
    given = weights_of(giver)
    new = weights_of(SacRedq(small.env().spec, small.ONLINE, seed=9, seeds=small.SEEDS))
    with tempfile.TemporaryDirectory() as root:
        publish(giver, file := Path(root) / "weights.safetensors")
        for policy, critics, moments, by_file in product((True, False), repeat=4):
            what = HandOver(policy, critics, False, moments)
            way = file if by_file else giver
            agent = SacRedq.warm_start(way, small.env().spec, small.ONLINE, what=what, seed=9, seeds=small.SEEDS)
            taken = {"policy": policy, "critics": critics, "targets": critics}
            for name, value in weights_of(agent).items():
                part = name.split(".")[2 if name.startswith("adam.") else 0]
                wrong += not torch.equal(value, (given if taken.get(part, False) else new)[name])
    return at_most(wrong, 0)


@row(
    SYSTEM,
    "E7-data",
    "offline rows in a batch of 4000 with shares 0, 1/4, 1/2, 3/4; 160 rows appended before 40",
    "within 4 sd",
)
def shares_of_data() -> Measurement:
    data, found = small.data_set()[:160], []
    for share in (0.0, 0.25, 0.5, 0.75, None):
        agent = SacRedq(small.env().spec, small.ONLINE, seeds=small.SEEDS)
        feed = RolloutSource(small.env(), small.SEEDS, 40, seed=2)
        plan = FineTuning(40, 40, steps_per_update=40, rows=4000, offline_share=share or 0.0, append=share is None)
        offline = None if share == 0.0 else data
        source = fine_tuning(agent.update, feed, plan, streams=Streams(2), seeds=small.SEEDS, offline=offline)[0].source
        found.append(float(torch.isin(source.next(agent).obs, data.obs).float().mean()))
    exactly = found[:4] == [0.0, 0.25, 0.5, 0.75]
    got = ", ".join(f"{x:.3f}" for x in found)
    return Measurement("0, 0.25, 0.5, 0.75, 0.8", got, exactly and abs(found[4] - 0.8) <= 4 * math.sqrt(0.16 / 8000))


@row(SYSTEM, "E8", "diagnostics after every online step: tensors that differ from a run without them", "0")
def diagnostics_change_nothing() -> Measurement:
    data = small.data_set()
    giver = small.pretrained(data)
    return at_most(small.differing(small.online(giver, 10, 30, watched=data), small.online(giver, 10, 30)), 0)


@row(SYSTEM, "K0", "env steps per seed before the first update with K = 0, 7 and 5000", "1, 8, 5001")
def warm_up_is_counted() -> Measurement:
    found = []
    for warm_up in (0, 7, 5000):
        agent = SacRedq(small.env().spec, small.ONLINE, seeds=small.SEEDS)
        phases = small.online_phases(agent, warm_up, 1)
        run(agent, phases)
        found.append(phases[1].source.steps // small.SEEDS)
    return Measurement("1, 8, 5001", ", ".join(map(str, found)), found == [1, 8, 5001])


@row(SYSTEM, "L10", "bytes of the offline data that are alive in the online phase, in memory", "0")
def no_data_retained() -> Measurement:
    data = small.data_set()
    sizes = [(weakref.ref(x), x.nbytes) for x in (data.obs, data.action, data.next_obs, data.reward)]
    giver = small.pretrained(data)
    agent = SacRedq.warm_start(giver, small.env().spec, small.ONLINE, seeds=small.SEEDS)
    del data, giver
    gc.collect()
    run(agent, small.online_phases(agent, 5, 5))
    return at_most(sum(size for trace, size in sizes if trace() is not None), 0)
