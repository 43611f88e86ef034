"""What a run shows and keeps of itself: its history, a progress bar, plots, tables of text."""
