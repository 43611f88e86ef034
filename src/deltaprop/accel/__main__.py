"""``python -m deltaprop.accel script.py``: run a script that knows scikit-learn only, by deltaprop."""

from __future__ import annotations

import argparse
import atexit
import logging
import sys
from collections.abc import Sequence

from deltaprop import accel
from deltaprop.accel import script

USAGE = (
    "python -m deltaprop.accel [--profile] [-v] script.py [arguments]\n"
    "       python -m deltaprop.accel [--profile] [-v] -m module [arguments]\n"
    "       python -m deltaprop.accel [--profile] [-v] -c code [arguments]"
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m deltaprop.accel",
        usage=USAGE,
        description="Run a script in which scikit-learn's MLPClassifier and MLPRegressor train and predict by "
        "deltaprop. The script needs no change. Everything after its name belongs to the script.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--profile", action="store_true", help="at the end, print what ran where, how long, and why not by deltaprop"
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="log to standard error what scikit-learn's own code does, and why"
    )
    parser.add_argument("-m", dest="module", nargs=argparse.REMAINDER, metavar="module", help="run a module")
    parser.add_argument("-c", dest="code", nargs=argparse.REMAINDER, metavar="code", help="run a piece of code")
    parser.add_argument("script", nargs=argparse.REMAINDER, help="the script, and its arguments")
    return parser


def main(given: Sequence[str]) -> None:
    """Run what the arguments name; the exit status is the one of the script."""
    parser = _parser()
    options = parser.parse_args(given)
    chosen = [each for each in (options.module, options.code, options.script) if each]
    if not chosen:
        parser.error("expected a script, -m module or -c code")
    if options.verbose:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
        logger = logging.getLogger("deltaprop.accel")
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        accel.install()
    except RuntimeError as error:  # the script runs all the same
        sys.stderr.write(f"{error}\n")
    if options.profile:
        # Registered first, so that it runs last: also after a traceback, and after the script's own functions.
        atexit.register(lambda: sys.stderr.write(f"{accel.profile()}\n"))
    name, *arguments = chosen[0]
    if options.module:
        if not script.is_there(name):
            parser.exit(1, f"{parser.prog}: No module named {name}\n")
        script.run_module(name, arguments)
    elif options.code:
        script.run_code(name, arguments)
    else:
        try:
            script.check_readable(name)
        except OSError as error:
            parser.exit(2, f"{parser.prog}: can't open file {name!r}: {error.strerror}\n")
        script.run_script(name, arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
