"""The notebook widgets: live views in JupyterLab, static HTML everywhere else."""

from .attempt_stream import AttemptStream
from .audit_table import AuditTable
from .board import TaskBoard
from .cost_chart import CostChart
from .diff_view import DiffView
from .stack_status import StackStatus

__all__ = ["AttemptStream", "AuditTable", "CostChart", "DiffView", "StackStatus", "TaskBoard"]
