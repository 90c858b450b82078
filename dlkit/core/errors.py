"""The one kind of error that is the user's to correct."""


class DlkitError(Exception):
    """A mistake the user can correct: printed as one line that says what, where and what to do."""
