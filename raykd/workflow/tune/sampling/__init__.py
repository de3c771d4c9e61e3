"""Values of trials: the search space as Optuna sees it, its samplers, and the study."""
