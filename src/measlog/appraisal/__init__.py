"""Comparing what a machine says with what it should be."""

from measlog.appraisal.baseline import Baseline
from measlog.appraisal.policy import AllOf, AnyOf, Policy, UnsafeAcceptAll, flatcar
from measlog.appraisal.result import AppraisalResult, Check, Finding, Identified, NotCovered
from measlog.appraisal.verifier import Verifier

__all__ = [
    "AllOf",
    "AnyOf",
    "AppraisalResult",
    "Baseline",
    "Check",
    "Finding",
    "Identified",
    "NotCovered",
    "Policy",
    "UnsafeAcceptAll",
    "Verifier",
    "flatcar",
]
