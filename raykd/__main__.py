"""`python -m raykd`."""

from raykd.cli.app import main

main()
