"""Version of raykd that a submitted job expects."""

import os
from importlib.metadata import version

from raykd.errors import InputError

VARIABLE = "RAYKD_EXPECTED_VERSION"


def check_expected_version() -> None:
    """Check in a submitted job that the cluster runs the version that submitted it.

    Raises:
        InputError: another version runs here.
    """
    expected, own = os.environ.get(VARIABLE), version("raykd")
    if expected and expected != own:
        raise InputError(
            f"the job was submitted by raykd {expected}, and the cluster runs raykd {own}; install "
            "the same version on the cluster, or submit with --raykd pip or --raykd WHEEL"
        )
