"""Result of a lap comparison in one sentence: job object, command line, demo, report, figure and tables. Pure."""

from __future__ import annotations


def is_clear(delta_s: float, error_s: float) -> bool:
    """Return whether the band around a time difference excludes zero: else nobody can be called faster."""
    return abs(delta_s) > error_s


def headline(delta_s: float, error_s: float, reference_s: float) -> str:
    """Return who is faster and by how much, or that there is no clear difference.

    ``delta_s`` is B's time minus A's, ``error_s`` the half-width of its 95 % band, ``reference_s`` A's time.
    """
    over = f"over {reference_s:.1f} s of the lap"
    if not is_clear(delta_s, error_s):
        return f"No clear difference {over}: B minus A is {format_signed(delta_s)} s ± {error_s:.2f} s"
    faster = "A" if delta_s > 0 else "B"
    return f"{faster} is {abs(delta_s):.2f} s faster ± {error_s:.2f} s {over}"


def format_signed(value: float) -> str:
    """Format a number of seconds with two decimals and its sign, a true minus, and no sign on zero."""
    text = f"{abs(value):.2f}"
    return text if float(text) == 0 else f"{'+' if value > 0 else '−'}{text}"
