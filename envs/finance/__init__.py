"""Portfolio problems and prices."""

from rlcore.envs.finance.black_scholes import GROWTH, BlackScholes, BlackScholesConfig
from rlcore.envs.finance.mean_variance import MeanVariance, MeanVarianceConfig, MeanVariancePolicy
from rlcore.envs.finance.merton import Market, Merton, MertonConfig, MertonConsumption, MertonConsumptionConfig

__all__ = [
    "GROWTH",
    "BlackScholes",
    "BlackScholesConfig",
    "Market",
    "MeanVariance",
    "MeanVarianceConfig",
    "MeanVariancePolicy",
    "Merton",
    "MertonConfig",
    "MertonConsumption",
    "MertonConsumptionConfig",
]
