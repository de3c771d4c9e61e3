"""What a training reports: its steps and scores, in files and to experiment trackers."""
