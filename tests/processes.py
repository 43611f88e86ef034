"""Programs in processes of their own, for what might end one: their exit status is part of what is asserted."""

import subprocess
import sys

PREAMBLE = """
import os, signal, sys, threading, time, warnings
import numpy as np
import deltaprop as dp
"""


def run(program, *arguments, status=0, timeout=120, **options):
    """Run a program and assert its exit status (−n where signal n ended it); what it printed, line by line."""
    command = [sys.executable, "-c", PREAMBLE + program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout, **options)
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return done.stdout.splitlines()
