"""Ablations: one config, varied and repeated over seeds, each cell a training of its own."""

from mstkit.ablation.plan import Plan, make_plan, parse_seeds
from mstkit.ablation.report import write_report
from mstkit.ablation.schedule import run_cells

__all__ = ['Plan', 'make_plan', 'parse_seeds', 'run_cells', 'write_report']
