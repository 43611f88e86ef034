"""The NumPy backend: its arithmetic, and a recorder of its calls."""
