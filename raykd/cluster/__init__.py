"""All that knows Ray: the cluster, tasks on it, and what workers tell the driver."""
