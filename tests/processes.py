"""Runs programs that may crash in processes of their own, and asserts their exit status."""

import subprocess
import sys

PREAMBLE = """
import os, signal, sys, threading, time, warnings
import numpy as np
import deltaprop as dp
"""


def run(program, *arguments, status=0, timeout=120, **options):
    """Run a program and assert its exit status (−n if signal n ended it); return the lines that it printed."""
    command = [sys.executable, "-c", PREAMBLE + program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout, **options)
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return done.stdout.splitlines()
