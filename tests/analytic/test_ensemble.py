"""Stacked ensembles and tanh-Gaussian policies against one network at a time and against known densities."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from rlcore.errors import ConfigError
from rlcore.nn.ensemble import Ensemble, Layers, draw_members
from rlcore.nn.squashed import Box
from rlcore.nn.tanh_gaussian import TanhGaussian

SEEDS, MEMBERS, INPUTS, OUTPUTS, ROWS = 3, 4, 5, 2, 7


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def stacked(layer_norm: bool, shared_head: bool) -> Ensemble:
    layers = Layers((8, 6), layer_norm=layer_norm, norm_eps=1e-6)
    made = Ensemble(SEEDS, MEMBERS, INPUTS, OUTPUTS, layers, generator=generator(), shared_head=shared_head).double()
    with torch.no_grad():
        for parameter in made.parameters():  # biases and gains that are not what they start with
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator(1), dtype=torch.float64))
    return made


def one_network(ensemble: Ensemble, seed: int, member: int) -> nn.Sequential:
    """The same member as an ordinary module."""
    at = seed * MEMBERS + member
    modules: list[nn.Module] = []
    for linear, norm in zip(ensemble.hidden, ensemble.norms, strict=True):
        modules.append(plain_linear(linear, at))
        if hasattr(norm, "gain"):
            plain = nn.LayerNorm(norm.width, eps=norm.eps).double()
            plain.weight.data, plain.bias.data = norm.gain[at, 0].detach().clone(), norm.shift[at, 0].detach().clone()
            modules.append(plain)
        modules.append(nn.ReLU())
    return nn.Sequential(*modules, plain_linear(ensemble.head, seed if ensemble.shared_head else at))


def plain_linear(stack: nn.Module, at: int) -> nn.Linear:
    weight, bias = stack.weight[at].detach(), stack.bias[at, 0].detach()  # type: ignore[index]
    made = nn.Linear(*weight.shape).double()
    made.weight.data, made.bias.data = weight.T.clone(), bias.clone()
    return made


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("shared_head", [False, True])
def test_a_member_is_the_network_it_would_be_alone(layer_norm: bool, shared_head: bool) -> None:
    ensemble = stacked(layer_norm, shared_head)
    x = torch.randn(SEEDS, ROWS, INPUTS, generator=generator(2), dtype=torch.float64, requires_grad=True)
    found = ensemble(x)
    assert found.shape == (SEEDS, MEMBERS, ROWS, OUTPUTS)
    cotangent = torch.randn(found.shape, generator=generator(3), dtype=torch.float64)
    (by_x, by_weight) = torch.autograd.grad((found * cotangent).sum(), [x, ensemble.hidden[0].weight])
    expected_by_x = torch.zeros_like(by_x)
    for s in range(SEEDS):
        for e in range(MEMBERS):
            network, rows = one_network(ensemble, s, e), x[s].detach().clone().requires_grad_()
            alone = network(rows)
            torch.testing.assert_close(found[s, e], alone, rtol=1e-12, atol=1e-12)
            (alone * cotangent[s, e]).sum().backward()
            expected_by_x[s] += rows.grad
            torch.testing.assert_close(by_weight[s * MEMBERS + e].T, network[0].weight.grad, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(by_x, expected_by_x, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("shared_head", [False, True])
def test_chosen_members_are_those_of_the_whole(shared_head: bool) -> None:
    ensemble = stacked(True, shared_head)
    x = torch.randn(SEEDS, ROWS, INPUTS, generator=generator(2), dtype=torch.float64)
    chosen = torch.tensor([[0, 3], [2, 2], [1, 0]])
    whole = ensemble(x)
    expected = torch.stack([whole[s, chosen[s]] for s in range(SEEDS)])
    torch.testing.assert_close(ensemble(x, chosen), expected, rtol=1e-12, atol=1e-12)


def test_first_weights_are_orthogonal_for_each_member() -> None:
    layers = Layers((16, 16), gain=1.5, last_hidden_gain=0.01, output_gain=2.0)
    ensemble = Ensemble(2, 3, 16, 16, layers, generator=generator())
    stacks = [*ensemble.hidden, ensemble.head]
    for stack, gain in zip(stacks, (1.5, 0.01, 2.0), strict=True):
        product = stack.weight.transpose(1, 2) @ stack.weight / gain**2
        torch.testing.assert_close(product, torch.eye(16).expand(6, 16, 16), atol=1e-5, rtol=0)
        assert not stack.bias.any()
        assert all(not torch.equal(a, b) for a, b in pairwise(stack.weight))


def test_members_are_drawn_evenly_and_apart_unless_told() -> None:
    stream = generator()
    apart = torch.cat([draw_members(1, 5, 2, generator=stream) for _ in range(4000)])
    assert (apart[:, 0] != apart[:, 1]).all()
    share = torch.bincount(apart.flatten(), minlength=5) / apart.numel()
    assert (share - 0.2).abs().max() < 0.02
    twice = torch.cat([draw_members(1, 5, 2, generator=stream, replacement=True) for _ in range(4000)])
    assert (twice[:, 0] == twice[:, 1]).double().mean().item() == pytest.approx(0.2, abs=0.03)
    with pytest.raises(ConfigError, match="1 to 5"):
        draw_members(1, 5, 6, generator=stream)


@pytest.mark.parametrize("state_dependent", [True, False])
def test_the_density_of_a_tanh_gaussian_integrates_to_one(state_dependent: bool) -> None:
    policy = TanhGaussian(2, 3, 1, Layers((8,)), generator=generator(), state_dependent=state_dependent).double()
    z = torch.linspace(-9.0, 9.0, 4001, dtype=torch.float64)
    unit = torch.tanh(z)[1:-1]
    inside = unit.abs() < 1.0 - 1e-5  # beyond it actions are brought inside, and carry no density of their own
    obs = torch.randn(2, 1, 3, generator=generator(1), dtype=torch.float64).expand(-1, len(unit), -1)
    density = torch.exp(policy.log_prob(obs, unit.expand(2, -1).unsqueeze(-1)))
    mass = torch.trapezoid(density[:, inside], unit[inside])
    torch.testing.assert_close(mass, torch.ones(2, dtype=torch.float64), atol=2e-3, rtol=0)


def test_samples_carry_the_density_that_log_prob_gives() -> None:
    policy = TanhGaussian(2, 3, 2, Layers((8,)), generator=generator()).double()
    obs, noise = (torch.randn(2, 50, n, generator=generator(n), dtype=torch.float64) for n in (3, 2))
    unit, log_prob = policy.sample(obs, noise)
    near = unit.abs().amax(-1) < 0.9999
    torch.testing.assert_close(policy.log_prob(obs, unit)[near], log_prob[near], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(policy.mode(obs), policy.sample(obs, 0 * noise)[0])


def test_the_log_density_stays_finite_where_tanh_saturates() -> None:
    policy = TanhGaussian(1, 1, 1, Layers((4,)), generator=generator())
    far = torch.full((1, 1, 1), 40.0)
    unit, log_prob = policy.sample(torch.ones(1, 1, 1), far)
    assert unit.item() == 1.0
    assert torch.isfinite(log_prob).all()


def test_a_box_and_the_unit_box() -> None:
    box, action = Box(-2.0, 6.0), torch.tensor([-2.0, 2.0, 6.0])
    assert box.to_unit(action).tolist() == [-1.0, 0.0, 1.0]
    assert torch.equal(box.from_unit(box.to_unit(action)), action)


def test_wrong_sizes_are_told() -> None:
    with pytest.raises(ConfigError, match="hidden layer"):
        Ensemble(1, 1, 3, 1, Layers(()), generator=generator())
    with pytest.raises(ConfigError, match="whole number"):
        Ensemble(1, 1.5, 3, 1, Layers((4,)), generator=generator())  # type: ignore[arg-type]
