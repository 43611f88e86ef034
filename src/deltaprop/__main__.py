"""``python -m deltaprop``: the ``deltaprop`` command."""

from deltaprop.cli import main

if __name__ == "__main__":
    main()
