"""What teaches: one prediction explained, gradients checked, Δ accumulated sample by sample."""
