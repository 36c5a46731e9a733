"""Suggest the closest match for a misspelled name."""

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, candidates: Iterable[str], *, cutoff: float = 0.6) -> str:
    """Return ``" (did you mean 'x'?)"`` for the closest candidate, or an empty string if none is close.

    Args:
        name: what the user wrote; upper and lower case are not distinguished.
        candidates: the names that exist.
        cutoff: least similarity of a suggestion, 0..1, as of :func:`difflib.get_close_matches`.
    """
    by_lower = {str(candidate).lower(): candidate for candidate in candidates}
    matches = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=cutoff)
    return f' (did you mean {by_lower[matches[0]]!r}?)' if matches else ''
