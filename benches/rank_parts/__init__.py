"""The parts of `benches.ranks`."""
