"""Portfolio problems."""

from rlcore.envs.finance.mean_variance import MeanVariance, MeanVarianceConfig, MeanVariancePolicy

__all__ = ["MeanVariance", "MeanVarianceConfig", "MeanVariancePolicy"]
