"""What a person can mend: the tools print the message alone, on one line, and exit with 2."""


class UserError(ValueError):
    """Bad input: the message names the value, the place and the remedy."""

    exit_code = 2


class CheckpointError(UserError):
    """A weight file that cannot be read or does not fit."""


class ElsewhereError(UserError):
    """The error of another process of this run, which says it."""


class Interrupted(UserError):  # noqa: N818 - no error
    """A run that was asked to stop, and did, with its state saved."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number
