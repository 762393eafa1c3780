"""Says so when a run begins to hack, or can no longer be vouched for."""

from __future__ import annotations

import sys
from typing import TextIO

from rlcore.agents.orpo.monitors import BELIEVED
from rlcore.training.trainer import Tick

MESSAGES = {
    "hack/hacked": "reward hacking: the proxy is above the reference's and the true reward below it; raise lambda",
    "hack/alarm_certificate": "the certificate is lost: kappa = {kappa:.3f}, less {error:.3f} for the spread between "
    "episodes, is below sqrt(1 - r^2) = {needed:.3f}, so a true reward that correlates as given may have fallen below "
    "the reference's; raise lambda",
    "hack/alarm_corr_drop": "proxy and true reward have come apart: correlation {corr:.2f} on the policy, {base:.2f} "
    "on the reference; this is reward hacking unless the true reward rose",
    "hack/alarm_zero_variance": "zero variance: the proxy or the true reward is constant on the policy's data, as on a "
    "single rewarded state; no correlation is defined there",
    "div/unsupported_frac": "the reference never visits {unsupported:.0%} of what the policy visits: their ratio is "
    "unbounded there and the estimate is a floor; take a wider reference or a stronger lambda",
    "disc/calibration": "the ratio does not calibrate: E_mu0[L] is off by {calibration:.2f}, so nothing is certified; "
    "gather more episodes of the reference, unless the policy has left them, which this says too",
}
LIMITS = {"div/unsupported_frac": 0.01, "disc/calibration": BELIEVED}


class HackingAlarm:
    """Prints one line when a monitor of `Orpo` begins to complain, and one when all is well again.

    Looks every `every` iterations, from `after` on, where a policy that begins at random has had time to come back.
    """

    def __init__(self, every: int = 10, after: int = 0, file: TextIO | None = None) -> None:
        self.every, self.after, self.file = every, after, file
        self.raised: set[str] = set()
        self.lines: list[str] = []

    def __call__(self, tick: Tick) -> None:
        if tick.iteration < self.after or (tick.iteration % self.every and not tick.last):
            return
        values = {name: float(value) for name, value in tick.metrics.items()}
        now = {name for name in MESSAGES if abs(values.get(name, 0.0)) > LIMITS.get(name, 0.5)}
        shown = {
            "kappa": values.get("hack/kappa", 0.0),
            "error": values.get("hack/kappa_error", 0.0),
            "needed": values.get("hack/kappa_required", 0.0),
            "corr": values.get("hack/corr_on_policy", 0.0),
            "base": values.get("hack/corr_base", 0.0),
            "unsupported": values.get("div/unsupported_frac", 0.0),
            "calibration": values.get("disc/calibration", 0.0),
        }
        for name in MESSAGES:
            if name in now - self.raised:
                self.say(f"alarm at iteration {tick.iteration}: {MESSAGES[name].format(**shown)}")
        if self.raised and not now:
            self.say(f"iteration {tick.iteration}: all monitors are quiet again")
        self.raised = now

    def say(self, line: str) -> None:
        """Keep the line and print it."""
        self.lines.append(line)
        print(line, file=self.file or sys.stderr, flush=True)
