"""Whether a backend works on this machine: every operation and every way of training, each in a process of its own."""

from deltaprop.doctor.report import Check, Report, Stage
from deltaprop.doctor.run import check_backend

__all__ = ["Check", "Report", "Stage", "check_backend"]
