"""Alignment by divergences: f-DPO, chi-PO, f-DPG, f-SFT, exponential tilts and the best of N, under one convention."""

from rlcore.functional.alignment.closed_forms import (
    best_of_n,
    best_of_n_bound,
    regularised_optimum,
    tilt,
    tilt_at_divergence,
)
from rlcore.functional.alignment.losses import (
    calibration_error,
    chi_po_loss,
    f_dpg_loss,
    f_dpo_logits,
    f_dpo_loss,
    f_sft_loss,
    preference_loss,
    pseudo_reward,
    root_chi_squared,
    saturated_share,
    sequence_chi_squared,
    sequence_kl,
)
from rlcore.functional.alignment.targets import LogPartition, binary_target, moment_weights

__all__ = [
    "LogPartition",
    "best_of_n",
    "best_of_n_bound",
    "binary_target",
    "calibration_error",
    "chi_po_loss",
    "f_dpg_loss",
    "f_dpo_logits",
    "f_dpo_loss",
    "f_sft_loss",
    "moment_weights",
    "preference_loss",
    "pseudo_reward",
    "regularised_optimum",
    "root_chi_squared",
    "saturated_share",
    "sequence_chi_squared",
    "sequence_kl",
    "tilt",
    "tilt_at_divergence",
]
