"""Tuning: trials on the cluster, their resources, and the best one."""
