"""Tries an installed package where there is no compiler and no cache: it trains by the library that came with it.

The command that is tried is the one beside the Python that runs this.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

COMMAND = Path(sys.executable).parent / "deltaprop"


def run(folder, *arguments):
    environment = {"PATH": str(folder / "empty"), "HOME": str(folder), "DELTAPROP_CACHE_DIR": str(folder / "cache")}
    done = subprocess.run(
        [COMMAND, *arguments], env=environment, cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode:
        sys.exit(f"deltaprop {' '.join(arguments)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        said = next(line for line in run(folder, "info").splitlines() if line.startswith("epochs"))
        print(said)
        if "prebuilt (" not in said:
            sys.exit("expected a prebuilt library")
        trained = run(folder, "train", "digits")
        print("".join(line + "\n" for line in trained.splitlines() if line.startswith(("training", "test"))), end="")
        if "compiling" in trained or (folder / "cache").exists():
            sys.exit("expected that nothing is compiled")
        if "accuracy" not in trained:
            sys.exit(f"expected an accuracy, got {trained}")


if __name__ == "__main__":
    main()
