"""One pre-trained backbone in several downstream tasks: the runs, what they reached, and what they predict."""

from mstkit.transfer.plan import Plan, TaskOptions, make_plan
from mstkit.transfer.report import write_report
from mstkit.transfer.runs import Run
from mstkit.transfer.source import Source, read_source
from mstkit.transfer.tasks import TASKS, check_task

__all__ = ['TASKS', 'Plan', 'Run', 'Source', 'TaskOptions', 'check_task', 'make_plan', 'read_source', 'write_report']
