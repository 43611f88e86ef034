"""Scripts as users of scikit-learn write them; `benches.accel` runs each with and without deltaprop."""
