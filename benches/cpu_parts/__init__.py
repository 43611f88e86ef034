"""The sections of `benches.cpu`, a file each: what they measure, and what they print."""
