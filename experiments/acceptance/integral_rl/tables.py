"""Known errors of policy iteration that restarts every iteration from fixed states, by rule and number of nodes.

Computed independently with exact weights of the rules and closed loops to 14 digits. `None` marks a pair whose gain
becomes destabilising. Columns are N = 5, 9, 17, 33, 65.
"""

from __future__ import annotations

from collections.abc import Mapping

Row = tuple[float | None, ...]
Table = Mapping[str, Row]

NODES = (5, 9, 17, 33, 65)
ORDERS = {
    "trapezoid": 2, "Simpson": 4, "Matern-1/2, l = T": 2, "Matern-3/2, l = T": 3, "Matern-5/2, l = T": 4,
    "Matern-7/2, l = T": 5, "Matern-7/2, l = 0.3": 5, "Matern-7/2, l = 10 T": 5, "IWP1": 3, "IWP2": 4, "IWP3": 5,
}  # fmt: skip
"""Of the error in the node spacing."""

THIRD_ORDER_SHORT: Table = {
    "trapezoid": (1.178e-3, 2.942e-4, 7.353e-5, 1.838e-5, 4.596e-6),
    "Simpson": (4.539e-7, 2.838e-8, 1.774e-9, 1.109e-10, 6.93e-12),
    "Matern-1/2, l = T": (3.361e-2, 8.448e-3, 2.115e-3, 5.289e-4, 1.322e-4),
    "Matern-3/2, l = T": (1.162e-2, 1.694e-3, 2.272e-4, 2.940e-5, 3.738e-6),
    "Matern-5/2, l = T": (4.733e-3, 3.958e-4, 2.788e-5, 1.847e-6, 1.189e-7),
    "Matern-7/2, l = T": (2.141e-3, 1.126e-4, 4.376e-6, 1.515e-7, 4.986e-9),
    "Matern-7/2, l = 0.3": (5.248e-5, 2.266e-6, 7.782e-8, 2.525e-9, 8.04e-11),
    "Matern-7/2, l = 10 T": (1.874e-6, 7.591e-8, 2.504e-9, 7.96e-11, 2.50e-12),
    "IWP1": (1.692e-4, 2.138e-5, 2.673e-6, 3.341e-7, 4.177e-8),
    "IWP2": (7.938e-7, 6.061e-8, 4.002e-9, 2.564e-10, 1.62e-11),
    "IWP3": (2.653e-7, 1.021e-8, 3.267e-10, 1.02e-11, 3.2e-13),
}
THIRD_ORDER_LONG: Table = {
    "trapezoid": (None, None, 7.396e-3, 1.841e-3, 4.597e-4),
    "Simpson": (None, 2.809e-4, 1.769e-5, 1.108e-6, 6.927e-8),
    "Matern-1/2, l = T": (None, None, 5.509e-3, 1.371e-3, 3.424e-4),
    "Matern-3/2, l = T": (None, 8.374e-3, 1.112e-3, 1.435e-4, 1.823e-5),
    "Matern-5/2, l = T": (None, 2.795e-3, 2.077e-4, 1.418e-5, 9.270e-7),
    "Matern-7/2, l = T": (None, 1.109e-3, 4.778e-5, 1.750e-6, 5.929e-8),
    "Matern-7/2, l = 0.3": (None, 1.213e-2, 7.442e-4, 3.344e-5, 1.263e-6),
    "Matern-7/2, l = 10 T": (None, 1.646e-4, 5.930e-6, 1.970e-7, 6.346e-9),
    "IWP1": (None, 3.512e-3, 4.454e-4, 5.603e-5, 7.024e-6),
    "IWP2": (None, 5.791e-4, 3.914e-5, 2.536e-6, 1.613e-7),
    "IWP3": (None, 1.237e-4, 4.314e-6, 1.409e-7, 4.503e-9),
}
SINE_SHORT: Table = {
    "trapezoid": (1.567e-4, 3.919e-5, 9.797e-6, 2.449e-6, 6.123e-7),
    "Simpson": (1.999e-7, 1.248e-8, 7.80e-10, 4.88e-11, 3.0e-12),
    "Matern-3/2, l = T": (1.908e-3, 2.786e-4, 3.738e-5, 4.836e-6, 6.150e-7),
    "Matern-5/2, l = T": (7.761e-4, 6.487e-5, 4.567e-6, 3.026e-7, 1.947e-8),
    "Matern-7/2, l = T": (3.501e-4, 1.839e-5, 7.142e-7, 2.472e-8, 8.13e-10),
    "Matern-7/2, l = 0.3": (7.964e-6, 3.434e-7, 1.178e-8, 3.82e-10, 1.2e-11),
    "Matern-7/2, l = 10 T": (3.015e-7, 1.235e-8, 4.10e-10, 1.3e-11, 4e-13),
    "IWP2": (3.505e-7, 2.671e-8, 1.761e-9, 1.13e-10, 7e-12),
    "IWP3": (1.164e-7, 4.448e-9, 1.42e-10, 4e-12, 1e-13),
}
SINE_LONG: Table = {
    "trapezoid": (1.526e-2, 3.808e-3, 9.518e-4, 2.379e-4, 5.948e-5),
    "Simpson": (1.805e-3, 1.046e-4, 6.377e-6, 3.960e-7, 2.471e-8),
    "Matern-3/2, l = T": (7.902e-3, 1.154e-3, 1.547e-4, 2.002e-5, 2.545e-6),
    "Matern-5/2, l = T": (4.523e-3, 4.410e-4, 3.368e-5, 2.329e-6, 1.532e-7),
    "Matern-7/2, l = T": (3.050e-3, 2.080e-4, 9.205e-6, 3.397e-7, 1.154e-8),
    "Matern-7/2, l = 0.3": (1.631e-2, 1.729e-3, 1.072e-4, 4.838e-6, 1.832e-7),
    "Matern-7/2, l = 10 T": (1.584e-3, 7.261e-5, 2.242e-6, 6.678e-8, 2.024e-9),
    "IWP2": (2.442e-3, 2.104e-4, 1.415e-5, 9.109e-7, 5.773e-8),
    "IWP3": (1.455e-3, 6.098e-5, 1.727e-6, 4.860e-8, 1.428e-9),
}
COSINE_SHORT: Table = {
    "trapezoid": (5.290e-3, 1.301e-3, 3.238e-4, 8.088e-5),
    "Simpson": (6.049e-6, 3.423e-7, 2.085e-8, 1.294e-9),
    "Matern-3/2, l = T": (3.525e-3, 5.003e-4, 6.657e-5, 8.590e-6),
    "Matern-5/2, l = T": (1.537e-3, 1.306e-4, 9.317e-6, 6.222e-7),
    "Matern-7/2, l = T": (7.521e-4, 4.105e-5, 1.636e-6, 5.746e-8),
    "Matern-7/2, l = 0.3": (6.713e-5, 2.912e-6, 9.985e-8, 3.232e-9),
    "Matern-7/2, l = 10 T": (8.896e-6, 2.887e-7, 8.100e-9, 2.35e-10),
    "IWP2": (1.234e-5, 8.181e-7, 5.012e-8, 3.095e-9),
    "IWP3": (2.682e-6, 8.353e-8, 3.661e-9, 1.39e-10),
}

SPECTRAL_SHORT: Mapping[str, Mapping[int, float]] = {
    "Newton-Cotes": {5: 6.17e-10},
    "SE, l = T": {5: 5.20e-5, 9: 3.93e-9},
    "Clenshaw-Curtis": {3: 7.25e-6, 5: 2.467e-10},
    "Gauss-Legendre": {3: 5.922e-10},
}
SPECTRAL_LONG: Mapping[str, Mapping[int, float | None]] = {
    "Newton-Cotes": {5: None, 9: 3.63e-9},
    "SE, l = T": {9: 8.17e-7, 13: 1.45e-10},
    "Clenshaw-Curtis": {3: None, 5: 2.17e-4, 9: 5.964e-11},
    "Gauss-Legendre": {3: 5.26e-4, 5: 2.43e-9},
}
"""Third-order task: rules whose error falls faster than any power, above rounding; the last ones of Clenshaw-Curtis and
Gauss-Legendre were computed with 40 digits."""
