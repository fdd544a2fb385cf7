"""One pre-trained backbone in several downstream tasks: the runs, what they reached, and what they predict."""

from mstkit.transfer.plan import TASKS, Plan, Run, Task, make_plan
from mstkit.transfer.report import write_report
from mstkit.transfer.training import train

__all__ = ['TASKS', 'Plan', 'Run', 'Task', 'make_plan', 'train', 'write_report']
