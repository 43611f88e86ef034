"""The tables and charts of the pages on benchmarks, made from the files in benches/results."""
