"""The loop over epochs, what it measures and when it stops; the full-batch solvers."""
