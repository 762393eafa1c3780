"""Bad settings end in one line that says what was expected and what came; and the doors of `rlcore.envs` open."""

from __future__ import annotations

import math
import subprocess
import sys

import gymnasium
import numpy as np
import pytest
import torch

import rlcore.envs
from rlcore.envs import CATALOG, make, register
from rlcore.envs.control.lqr import ScalarLqr, ScalarLqrConfig
from rlcore.envs.control.matrix_lqr import random_lq
from rlcore.errors import ConfigError, DeviceError, NumericsError, ShapeError, UnknownNameError
from rlcore.functional.linear_quadratic import LqProblem, evaluate_linear_gaussian, solve_stationary

OURS = sorted(name for name in CATALOG if "Lqr" in name or "Ornstein" in name)


@pytest.mark.parametrize("env_id", OURS)
@pytest.mark.parametrize(
    "setting",
    [
        {"dt": math.nan},
        {"dt": -0.01},
        {"dt": 0.0},
        {"dt": math.inf},
        {"horizon": math.nan},
        {"horizon": -1.0},
        {"discount_rate": math.nan},
        {"discount_rate": -0.1},
    ],
)
def test_times_and_rates(env_id, setting):
    with pytest.raises(ConfigError, match="got") as caught:
        make(env_id, **setting)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "setting",
    [
        {"A": math.nan},
        {"sigma": math.inf},
        {"temperature": -1.0},
        {"initial_sd": math.nan},
        {"substeps": 0},
        {"action_bound": 0.0},
    ],
)
def test_scalar_coefficients(setting):
    with pytest.raises(ConfigError, match=next(iter(setting))):
        make("rlcore/ScalarLqr-v0", **setting)


@pytest.mark.parametrize("value", ["0.1", None, [0.1]])
@pytest.mark.parametrize("env_id", sorted(CATALOG))
def test_settings_that_are_not_numbers(env_id, value):
    moves = {
        "Preference": "beta",
        "Tomato": "slip",
        "Pandemic": "horizon",
        "Traffic": "horizon",
    }  # these have moves, and no control interval to set
    setting = next((setting for part, setting in moves.items() if part in env_id), "dt")
    with pytest.raises(ConfigError, match="got") as caught:
        make(env_id, **{setting: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mode", ["human", "ansi", 3])
def test_render_modes_of_vectors(mode):
    with pytest.raises(ConfigError, match="render_mode must be None or one of"):
        gymnasium.make_vec("rlcore/Pendulum-v0", num_envs=2, render_mode=mode)


@pytest.mark.parametrize("setting", [{"state_dim": 0}, {"action_dim": -1}, {"temperature": math.nan}])
def test_matrix_sizes(setting):
    with pytest.raises(ConfigError, match="got"):
        make("rlcore/MatrixLqr-v0", **setting)


@pytest.mark.parametrize("setting", [{"kappa": 0.0}, {"kappa": math.nan}, {"sigma": -1.0}, {"discount_rate": 0.0}])
def test_ornstein_uhlenbeck(setting):
    with pytest.raises(ConfigError, match=next(iter(setting))):
        make("rlcore/OrnsteinUhlenbeck-v0", **setting)


@pytest.mark.parametrize(
    "config",
    [
        ScalarLqrConfig(A=1.0, B=0.0, C=0.0, D=0.0, sigma=1.0),  # the action has no effect
        ScalarLqrConfig(A=0.5, B=1.0, C=0.0, D=2.0, discount_rate=0.0),  # every action adds more noise than it removes
    ],
)
def test_no_stabilising_solution(config):
    with pytest.raises(NumericsError, match=r"no stabilising solution.*discount rate") as caught:
        ScalarLqr(config).solution()
    assert "\n" not in str(caught.value)


def test_no_best_action():
    with pytest.raises(NumericsError, match="no best action"):
        ScalarLqr(ScalarLqrConfig(N=-1.0)).solution()


def test_unstable_gain():
    with pytest.raises(NumericsError, match="choose a stabilising gain"):
        ScalarLqr().value_of_policy(3.0, 0.0, 0.1)


def test_deterministic_policy_has_no_entropy():
    with pytest.raises(ConfigError, match="temperature to 0"):
        ScalarLqr().value_of_policy(-1.0, 0.0, 0.0)


def test_problem_shapes():
    one = np.ones((1, 1))
    parts = {"A": one, "B": one, "C": one[None], "D": one[None], "sigma": one, "M": one, "N": one, "R": one}
    with pytest.raises(ShapeError, match=r"P must have shape \[1\], got \[2\]"):
        LqProblem(**parts, P=np.ones(2), Q=np.ones(1))
    with pytest.raises(ConfigError, match="M must be finite"):
        LqProblem(**{**parts, "M": math.nan * one}, P=np.ones(1), Q=np.ones(1))
    with pytest.raises(ShapeError, match=r"gain must have shape \[2, 3\]"):
        evaluate_linear_gaussian(random_lq(3, 2, 0), np.ones((3, 2)), np.zeros(2), np.eye(2))
    assert solve_stationary(random_lq(3, 2, 0)).gain.shape == (2, 3)


def test_unknown_names():
    with pytest.raises(UnknownNameError, match="did you mean 'rlcore/ScalarLqr-v0'"):
        make("rlcore/ScalarLQ-v0")
    with pytest.raises(ConfigError, match="no setting 'discount'; did you mean 'discount_rate'"):
        make("rlcore/ScalarLqr-v0", discount=0.1)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        rlcore.envs.Nothing  # noqa: B018


def test_dtype_and_device():
    assert make("rlcore/LqrB-v0", dtype=torch.float64).dtype == torch.float64
    with pytest.raises(ConfigError, match=r"float32 or torch\.float64"):
        make("rlcore/LqrB-v0", dtype=torch.float16)
    with pytest.raises(DeviceError, match="'cpu' or 'cuda"):
        make("rlcore/LqrB-v0", device="abacus")


@pytest.mark.parametrize("env_id", sorted(CATALOG))
def test_catalog(env_id):
    env = make(env_id)
    assert env.spec.name == env_id
    assert type(env).__doc__ is not None
    assert gymnasium.make(f"rlcore.envs:{env_id}").unwrapped.spec.id == env_id
    assert gymnasium.make_vec(env_id, num_envs=3).num_envs == 3


def test_gymnasium_passes_settings_on():
    assert gymnasium.make("rlcore/ScalarLqr-v0", dt=0.02).unwrapped.reset(seed=0)[1]["dt"] == 0.02


def test_a_users_own_environment():
    class Mine(ScalarLqr):
        def __init__(self, A: float = -1.0) -> None:
            super().__init__(ScalarLqrConfig(A=A))

    register("test/Mine-v0", Mine, A=-2.0)
    env, batch = gymnasium.make("test/Mine-v0"), gymnasium.make_vec("test/Mine-v0", num_envs=4, A=-3.0)
    assert env.reset(seed=0)[0].shape == (1,)
    assert batch.reset(seed=0)[0].shape == (4, 1)
    del gymnasium.registry["test/Mine-v0"]


def test_listing_imports_no_torch():
    code = "import sys, rlcore.envs; assert 'torch' not in sys.modules and 'scipy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
