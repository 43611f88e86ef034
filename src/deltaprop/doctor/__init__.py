"""Finds out whether a backend works on this machine: tries every operation and every way of training."""

from deltaprop.doctor.report import Check, Report, Stage
from deltaprop.doctor.run import check_backend

__all__ = ["Check", "Report", "Stage", "check_backend"]
