"""Trainings as processes of their own: claimed, started, watched, stopped, written down, and gone on with."""

from mstkit.jobs.job import FAILED, FINISHED, RUNNING, STOPPED, Job
from mstkit.jobs.schedule import failures, run_jobs
from mstkit.jobs.spread import Spread, mean_curve, spread

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
