"""Quantities with their units, as people read them on a terminal, in a picture and in REPRODUCING.md."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """A time span in its one or two largest units.

    >>> duration(8), duration(125), duration(3725), duration(200_000), duration(1.6e9)
    ('8 s', '2 min', '1 h 02 min', '2.3 days', '51 years')
    """
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    if not hours:
        return f"{minutes} min"
    if hours < 48:
        return f"{hours} h {minutes:02} min"
    days = seconds / 86400
    return f"{days:.1f} days" if days < 100 else f"{days:.0f} days" if days < 730 else f"{days / 365.25:,.0f} years"


def size(amount: float) -> str:
    """Bytes in decimal units.

    >>> size(512), size(3_400_000)
    ('512 B', '3.4 MB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 999.5:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.3g} TB"


def count(number: int, noun: str) -> str:
    """A number of things.

    >>> count(1, "run"), count(2000, "run")
    ('1 run', '2,000 runs')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
