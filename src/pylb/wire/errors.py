"""The one error of this package."""


class WireError(ValueError):
    """Bytes that are not what they should be; the message says what was expected."""
