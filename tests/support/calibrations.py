"""A calibration of two classes."""

from raykd.models.calibration import Calibration, Threshold

CALIBRATION = Calibration(
    temperature=1.75,
    labels=("bad", "good"),
    num_rows=120,
    thresholds=(
        Threshold(precision=0.9, threshold=0.6, num_answered=100, num_right=91),
        Threshold(precision=0.95, threshold=0.8, num_answered=70, num_right=66),
    ),
)
