"""`python -m raykd`."""

from raykd.cli import main

main()
