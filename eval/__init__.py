"""Is an answer right, and how good is a policy: extraction, checking, benchmarks, metrics."""

from eval.answer import extract_answer
from eval.benchmarks import Problem, load_benchmark
from eval.checker import check, check_many
from eval.errors import BenchmarkError, CheckerError, EvalError
from eval.metrics import (
    PairedComparison,
    accuracy,
    bootstrap_paired,
    compare_paired,
    maj_at_k,
    majority_vote,
    pass_at_k,
    wilson_interval,
)

__all__ = [
    "BenchmarkError",
    "CheckerError",
    "EvalError",
    "PairedComparison",
    "Problem",
    "accuracy",
    "bootstrap_paired",
    "check",
    "check_many",
    "compare_paired",
    "extract_answer",
    "load_benchmark",
    "maj_at_k",
    "majority_vote",
    "pass_at_k",
    "wilson_interval",
]
