"""The run report: one HTML file about a run or a comparison of runs, made from the files in their work dirs."""

from mstkit.report.report_page import build_page
from mstkit.report.run_facts import RunRecord, read_run

__all__ = ['RunRecord', 'build_page', 'read_run']
