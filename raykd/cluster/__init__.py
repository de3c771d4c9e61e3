"""Ray: cluster connection, tasks, preemption, and progress of training workers."""
