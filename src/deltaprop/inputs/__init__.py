"""What comes in: arrays, files, and data larger than memory."""
