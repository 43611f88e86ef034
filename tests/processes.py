"""Runs programs that may crash in processes of their own, and asserts their exit status."""

import subprocess
import sys

PREAMBLE = """
import os, signal, sys, threading, time, warnings
import numpy as np
import deltaprop as dp
"""


def python(*arguments, status=0, timeout=600, **options):
    """Run Python with these arguments and assert its exit status (−n if signal n ended it); return its output."""
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout, **options)
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return done.stdout


def outputs_of(process, timeout=120):
    """What a process writes to its standard output and error until it ends. One that takes longer is killed: left
    behind, it would be reported when it is collected, in the middle of another test."""
    with process:
        try:
            return process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise


def run(program, *arguments, timeout=120, **options):
    """Run a program after the preamble and assert its exit status; return the lines that it printed."""
    return python("-c", PREAMBLE + program, *arguments, timeout=timeout, **options).splitlines()
