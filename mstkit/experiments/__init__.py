"""Experiments of several trainings: planned, run as separate processes, resumed, and summarized in one report.

``ablation`` varies one config over seeds, ``transfer`` fine-tunes one backbone in several tasks; this package exports
what they share.
"""

import mstkit.registry  # noqa: F401  (first: it imports torch and mmpretrain, see mstkit/_dependencies.py)
from mstkit.experiments.job import FAILED, FINISHED, RUNNING, STOPPED, Job
from mstkit.experiments.job_schedule import failures, run_jobs
from mstkit.experiments.seed_statistics import Spread, mean_curve, spread

__all__ = [
    'FAILED',
    'FINISHED',
    'RUNNING',
    'STOPPED',
    'Job',
    'Spread',
    'failures',
    'mean_curve',
    'run_jobs',
    'spread',
]
