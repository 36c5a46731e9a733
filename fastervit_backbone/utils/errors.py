"""User-facing errors: the command prints only the message, on one line, and exit with 2."""


class UserError(ValueError):
    """Bad input: the message names the value, the place and the remedy."""

    exit_code = 2


def cause_of(error: Exception) -> str:
    """Describe on one line why a download or upload failed: libraries wrap the error of their HTTP client."""
    return ' '.join(str(getattr(error, 'reason', None) or error.__cause__ or error).split())


class CheckpointError(UserError):
    """A weight file cannot be read or written, or does not fit."""


class DownloadError(CheckpointError):
    """A download that failed.

    Args:
        url: of the file.
        reason: why it failed.
        path: where the file is looked for, so that it can be put there by hand.
        otherwise: what to do without the file.
    """

    def __init__(self, url: str, reason: str, path: str, otherwise: str) -> None:
        super().__init__(f'cannot download {url} ({reason}): put the file at {path}, or {otherwise}')
        self.url, self.reason, self.path = url, reason, path


class OtherProcessError(UserError):
    """Another process of this run failed and reports the error."""


class Interrupted(UserError):  # noqa: N818 - not an error
    """The run was asked to stop and did so after saving its state."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number
