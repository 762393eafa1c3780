"""Integrals of sampled functions: classical rules and Bayesian quadrature in O(N), with an error bar."""

from rlcore.functional.quadrature.classical import Simpson as Simpson
from rlcore.functional.quadrature.classical import Trapezoid as Trapezoid
from rlcore.functional.quadrature.classical import clenshaw_curtis as clenshaw_curtis
from rlcore.functional.quadrature.classical import gauss_legendre as gauss_legendre
from rlcore.functional.quadrature.dense import dense_quadrature as dense_quadrature
from rlcore.functional.quadrature.kernels import Kernel as Kernel
from rlcore.functional.quadrature.kernels import MaternKernel as MaternKernel
from rlcore.functional.quadrature.kernels import SquaredExponentialKernel as SquaredExponentialKernel
from rlcore.functional.quadrature.kernels import WienerKernel as WienerKernel
from rlcore.functional.quadrature.likelihood import fit_length_scale as fit_length_scale
from rlcore.functional.quadrature.nodes import End as End
from rlcore.functional.quadrature.nodes import Quadrature as Quadrature
from rlcore.functional.quadrature.nodes import Rule as Rule
from rlcore.functional.quadrature.patterns import ByPattern as ByPattern
from rlcore.functional.quadrature.rules import IntegratedWiener as IntegratedWiener
from rlcore.functional.quadrature.rules import Matern as Matern
from rlcore.functional.quadrature.rules import NaturalSpline as NaturalSpline
from rlcore.functional.quadrature.rules import SquaredExponential as SquaredExponential
