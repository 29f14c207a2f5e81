"""Times as people write and read them. Inside, a time is ns since 1970, UTC."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

import typer

NS_PER_S: Final = 1_000_000_000
END_OF_TIME_NS: Final = (1 << 63) - 1

LONGEST_S: Final = 100 * 365.25 * 86400  # from now, that stays within what 64 bits of ns hold

_UNITS_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_NOW: Final = re.compile(r"now(?:([+-])(.+))?")
_MOMENT: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(:\d\d)?(?:\.(\d{1,9}))?\s*(Z|z|[+-]\d\d:?\d\d)?)?", re.ASCII
)


def duration_ns(text: str) -> int:
    """Read a duration: `90s`, `1m`, `2h`, `1d`, `500ms`.

    Raises:
        typer.BadParameter: It is none.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise typer.BadParameter(f"{text!r} is no duration; expected a number and its unit, as in 90s, 1m, 2h or 1d")
    seconds = float(match[1]) * _UNITS_S[match[2]]
    if seconds > LONGEST_S:
        raise typer.BadParameter(f"{text!r} is too long; a duration has at most 100 years")
    return round(seconds * NS_PER_S)


def moment_ns(text: str, now_ns: int) -> int:
    """Read a moment: RFC 3339, the same in local time if it has no zone, `now`, or `now-1h`.

    Raises:
        typer.BadParameter: It is none.
    """
    text = text.strip()
    if relative := _NOW.fullmatch(text):
        sign, distance = relative.groups()
        if sign is None:
            return now_ns
        return now_ns + (1 if sign == "+" else -1) * duration_ns(distance)
    match = _MOMENT.fullmatch(text)
    if match is None:
        expected = "expected RFC 3339 (2026-03-01T12:00:00Z), local time (2026-03-01 12:00), or now-1h"
        raise typer.BadParameter(f"{text!r} is no time; {expected}")
    date, minutes, seconds, fraction, zone = match.groups()
    try:
        whole = datetime.fromisoformat(f"{date} {minutes or '00:00'}{seconds or ':00'}")
        stamp = whole.replace(tzinfo=_zone(zone)) if zone else whole.astimezone()
        result = int(stamp.timestamp()) * NS_PER_S + int((fraction or "").ljust(9, "0"))
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(f"{text!r} is no time: {error}") from error
    if abs(result) > END_OF_TIME_NS:
        raise typer.BadParameter(f"{text!r} is too far away; times go from 1678 to 2262")
    return result


def _zone(text: str) -> timezone:
    if text in "Zz":
        return UTC
    digits = text[1:].replace(":", "")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-offset if text[0] == "-" else offset)


def rfc3339(at_ns: int | None) -> str | None:
    """Give a time as in JSON and CSV: UTC with nine digits and `Z`; None where there is none (None or 0)."""
    if not at_ns:
        return None
    seconds, fraction = divmod(at_ns, NS_PER_S)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{fraction:09d}Z"


def shown(at_ns: int | None, utc: bool) -> str:
    """Give a time for a table: local time with its offset, or UTC; "-" where there is none."""
    if not at_ns:
        return "-"
    seconds, fraction = divmod(at_ns, NS_PER_S)
    if utc:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds)) + f".{fraction // 1_000_000:03d}Z"
    local = time.localtime(seconds)
    zone = time.strftime("%z", local)
    return time.strftime("%Y-%m-%d %H:%M:%S", local) + f".{fraction // 1_000_000:03d}{zone[:3]}:{zone[3:]}"


def shown_duration(seconds: float | None) -> str:
    """Give a duration for a table, in two units at most: `3.2s`, `4m10s`, `2h05m`, `3d04h`."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f}s"
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"
