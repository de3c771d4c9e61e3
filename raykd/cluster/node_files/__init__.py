"""Files of tasks on machines that do not see the disk of the command."""
