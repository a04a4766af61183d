"""When a crontab fires: pure functions over instants, right over a change of clocks.

The rules are those of Debian's cron, by `cronsim`: a fixed time that the clocks jump over fires at
the first instant after the jump, one that they repeat fires once, and a ``*`` or ``*/n`` goes on by
real time.
"""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

__all__ = ["CrontabError", "check_timezone", "next_fire", "next_fires", "normalised"]

FIELDS = "minute hour day-of-month month day-of-week"
_NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


class CrontabError(ValueError):
    """A crontab or time zone that cannot be used; the text is one sentence."""


def normalised(text: str) -> str:
    """Return a crontab with single spaces and nicknames such as ``@daily`` replaced.

    Raises
    ------
    CrontabError
        When it cannot be read, or no day ever matches it.
    """
    crontab = _NICKNAMES.get(text.strip().lower()) or " ".join(text.upper().split())
    parts = crontab.split(" ")
    if len(parts) != 5:
        raise CrontabError(
            f"The crontab {text!r} has {len(parts) if crontab else 0} fields; give five: {FIELDS}."
        )
    try:
        # The same with every month shows whether the fields are sound by themselves.
        CronSim(" ".join([*parts[:3], "*", parts[4]]), _EPOCH)
        CronSim(f"0 0 1 {parts[3]} *", _EPOCH)
    except CronSimError as error:
        raise CrontabError(
            f"The crontab {text!r} cannot be read ({str(error).lower()}); its fields are {FIELDS}."
        ) from error
    try:
        next(CronSim(crontab, _EPOCH))
    except (CronSimError, StopIteration) as error:
        raise CrontabError(
            f"The crontab {text!r} never fires, because no month of it has such a day; change the "
            "day or the month."
        ) from error
    return crontab


_EPOCH = datetime(2024, 1, 1, tzinfo=UTC)


def check_timezone(name: str) -> str:
    """Return the name of a time zone.

    Raises
    ------
    CrontabError
        When there is no such zone.
    """
    if name not in available_timezones():
        raise CrontabError(
            f"There is no time zone {name!r}; give a name such as Europe/Berlin or UTC."
        )
    return name


def next_fire(crontab: str, timezone: str, after: datetime) -> datetime:
    """Return the first instant later than `after` at which a crontab fires, in UTC.

    Parameters
    ----------
    crontab
        Normalised.
    timezone
        Name of the zone whose clocks the crontab speaks of.
    after
        An aware instant.
    """
    ticks = CronSim(crontab, after.astimezone(ZoneInfo(timezone)))
    # In an hour that the clocks repeat, the library may answer with the first of the two.
    return next(at for tick in ticks if (at := tick.astimezone(UTC)) > after)


def next_fires(crontab: str, timezone: str, after: datetime, *, count: int) -> list[datetime]:
    """Return the first `count` instants later than `after`, as :func:`next_fire` has them."""
    fires: list[datetime] = []
    for _ in range(count):
        after = next_fire(crontab, timezone, after)
        fires.append(after)
    return fires
