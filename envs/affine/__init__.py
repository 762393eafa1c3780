"""Control-affine problems with a known optimum, undiscounted and deterministic."""

from rlcore.envs.affine.closed_forms import ArctanSpring, CosineInput, CubicDecay, CubicGrowth, SineSystem
from rlcore.envs.affine.control_affine import AffineConfig, ClosedLoop, ControlAffine
from rlcore.envs.affine.converse import converse
from rlcore.envs.affine.generated import HyperbolicValue, QuarticValue, SaturatedInput, TwoInputs
from rlcore.envs.affine.linear import F16ShortPeriod, LinearRegulator, LoadFrequency, ThirdOrderLinear, linear
from rlcore.envs.affine.problem import AffineProblem, Basis, Matrix, gradient
from rlcore.envs.affine.random_converse import ConverseHjb, ConverseHjbConfig, random_converse

__all__ = [
    "AffineConfig",
    "AffineProblem",
    "ArctanSpring",
    "Basis",
    "ClosedLoop",
    "ControlAffine",
    "ConverseHjb",
    "ConverseHjbConfig",
    "CosineInput",
    "CubicDecay",
    "CubicGrowth",
    "F16ShortPeriod",
    "HyperbolicValue",
    "LinearRegulator",
    "LoadFrequency",
    "Matrix",
    "QuarticValue",
    "SaturatedInput",
    "SineSystem",
    "ThirdOrderLinear",
    "TwoInputs",
    "converse",
    "gradient",
    "linear",
    "random_converse",
]
