"""Runs a part in this process, for `benches.gpu`: python -m benches.gpu_parts PART DESCRIPTOR OPTIONS."""

import sys
from importlib import import_module

from .channel import NOT_HERE, Channel, NotHereError
from .part import PARTS, Options


def main() -> None:
    name, descriptor, options = sys.argv[1:]
    if name not in (*PARTS, "device"):
        raise ValueError(f"part: expected one of {', '.join(PARTS)}, got {name!r}")
    channel = Channel(int(descriptor))
    try:
        import_module(f".{name}", __package__).run(Options.loads(options), channel)
    except NotHereError as reason:
        channel.not_here(str(reason))
        raise SystemExit(NOT_HERE) from None


if __name__ == "__main__":
    main()
