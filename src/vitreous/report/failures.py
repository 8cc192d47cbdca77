"""An explanation that cannot be made is left out of the page, with the reason; it never costs a run its report."""

from vitreous.errors import UserError

FAILURES = (UserError, RuntimeError)  # what explanations raise; torch has one error for all that a network may not take


def reason(error: Exception) -> str:
    r"""What an error says, in a line.

    >>> reason(UserError("no map.")), reason(RuntimeError("first\nsecond"))
    ('no map.', 'first')
    """
    return (str(error).splitlines() or [type(error).__name__])[0]
