"""Prices of computing time, for the costs that `raykd status` shows."""

from pydantic import Field

from raykd.config import Config


class PricesConfig(Config):
    """Prices per hour; they change no result."""

    cpu_hour: float = Field(0.0, ge=0, description="Price of one CPU for one hour.")
    gpu_hour: float = Field(0.0, ge=0, description="Price of one GPU for one hour.")
    currency: str = Field(
        "USD",
        pattern=r"^[A-Z]{3}$",
        description="Currency of the prices: three capital letters, such as USD or EUR.",
    )
