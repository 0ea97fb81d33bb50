# SPDX-License-Identifier: MIT
"""The plain types of PyrateLimiter's interface, for programs that do not have it installed.
Intervals and times are whole milliseconds."""
import enum
from abc import ABC, abstractmethod
from collections.abc import Awaitable
from typing import Any


class Duration(enum.IntEnum):
    """Milliseconds of a unit: Duration.MINUTE * 5."""
    SECOND = 1000
    MINUTE = 60 * 1000
    HOUR = 60 * 60 * 1000
    DAY = 24 * 60 * 60 * 1000
    WEEK = 7 * 24 * 60 * 60 * 1000

    @staticmethod
    def readable(value: int) -> str:
        """90000 as "1.5m"."""
        for unit in reversed(Duration):
            if value >= unit:
                return f"{value / unit:0.1f}{unit.name[0].lower()}"
        return f"{value}ms"


class Rate:
    """At most `limit` permits in any `interval` milliseconds."""

    def __init__(self, limit: int, interval: int | Duration) -> None:
        self.limit = int(limit)
        self.interval = int(interval)
        if self.limit <= 0 or self.interval <= 0:
            raise ValueError(f"Rate({limit}, {interval}): give a limit and an interval above 0")

    def __str__(self) -> str:
        return f"limit={self.limit}/{Duration.readable(self.interval)}"

    def __repr__(self) -> str:
        return f"limit={self.limit}/{self.interval}"


class RateItem:
    """A call: how many permits, and when by the caller's clock."""

    def __init__(self, name: str, timestamp: int, weight: int = 1) -> None:
        self.name = name
        self.timestamp = timestamp
        self.weight = weight

    def __str__(self) -> str:
        return f"RateItem(name={self.name}, weight={self.weight}, timestamp={self.timestamp})"


class AbstractBucket(ABC):
    """What a Limiter needs of a bucket."""
    rates: list[Rate]
    failing_rate: Rate | None = None  # of the last put() that was refused

    @abstractmethod
    def put(self, item: RateItem) -> Any:
        """Takes item.weight permits, or none: bool, or an awaitable of it."""

    @abstractmethod
    def leak(self, current_timestamp: int | None = None) -> Any:
        """Drops what has expired; how many."""

    @abstractmethod
    def flush(self) -> Any:
        """Forgets everything."""

    @abstractmethod
    def count(self) -> Any:
        """How many permits are stored."""

    @abstractmethod
    def peek(self, index: int) -> Any:
        """The stored permit number `index`, the newest is 0; or None."""

    @abstractmethod
    def waiting(self, item: RateItem) -> Any:
        """Milliseconds until a refused item passes; -1: never."""

    @abstractmethod
    def now(self) -> Any:
        """The bucket's clock, in milliseconds."""

    def limiter_lock(self) -> object | None:
        """A lock that a Limiter must take first."""
        return None

    def close(self) -> None:
        """Gives up what the bucket holds."""

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class BucketFactory(ABC):
    """Subclass it to choose a bucket for each call."""
    leak_interval = 10_000  # nothing has to be dropped in the background

    @abstractmethod
    def wrap_item(self, name: str, weight: int = 1) -> RateItem | Awaitable[RateItem]:
        """The call as an item."""

    @abstractmethod
    def get(self, item: RateItem) -> AbstractBucket | Awaitable[AbstractBucket]:
        """The bucket for it."""

    def create(self, bucket_class: type[AbstractBucket], *args: Any, **kwargs: Any
               ) -> AbstractBucket:
        """Makes a bucket that get_buckets() knows."""
        bucket = bucket_class(*args, **kwargs)
        self.schedule_leak(bucket)
        return bucket

    def schedule_leak(self, new_bucket: AbstractBucket) -> None:
        """Makes a bucket known to get_buckets()."""
        self.__dict__.setdefault("_buckets", []).append(new_bucket)

    def get_buckets(self) -> list[AbstractBucket]:
        return list(self.__dict__.get("_buckets", ()))

    def dispose(self, bucket: int | AbstractBucket) -> bool:
        """Forgets a bucket, or the one of that id()."""
        known: list[AbstractBucket] = self.__dict__.get("_buckets", [])
        for i, one in enumerate(known):
            if one is bucket or id(one) == bucket:
                del known[i]
                return True
        return False

    def close(self) -> None:
        """Closes every known bucket."""
        for bucket in self.get_buckets():
            self.dispose(bucket)
            bucket.close()


class BucketFullException(Exception):
    """A call was refused; Limiter(..., raise_when_fail=True)."""

    def __init__(self, item: RateItem, rate: Rate | None, remaining_time: float = 0.0) -> None:
        error = f"Bucket for item={item.name} with Rate {rate} is already full"
        super().__init__(error)
        self.item = item
        self.rate = rate
        self.meta_info = {"error": error, "name": item.name, "weight": item.weight,
                          "rate": str(rate), "remaining_time": remaining_time}


class LimiterDelayException(BucketFullException):
    """The wait would have been longer than the caller allows."""


def validate_rate_list(rates: list[Rate]) -> bool:
    """Whether each rate can bind: by interval the limits grow, and the rates do not."""
    return bool(rates) and all(
        one.interval < two.interval and one.limit < two.limit
        and two.limit * one.interval <= one.limit * two.interval
        for one, two in zip(rates, rates[1:]))
