"""The ways to train one epoch: step by step, compiled, recorded, as a graph, in one launch, in chunks."""
