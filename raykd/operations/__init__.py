"""Operation of runs: submission to a cluster, checks of a set-up, state and integrity of a run."""
