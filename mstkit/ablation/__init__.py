"""Ablations: one config, varied and repeated over seeds, each cell a training of its own."""

from mstkit.ablation.plan import Plan, make_plan
from mstkit.ablation.report import write_report

__all__ = ['Plan', 'make_plan', 'write_report']
