"""What a person can mend: the tools print the message alone, on one line, and exit with 2."""


class UserError(ValueError):
    """Bad input: the message names the value, the place and the remedy."""


class CheckpointError(UserError):
    """A weight file that cannot be read or does not fit."""
