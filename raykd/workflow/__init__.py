"""A recipe, stage by stage: from its checks to its report."""
