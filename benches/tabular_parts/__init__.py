"""The parts of `python -m benches.tabular`."""
