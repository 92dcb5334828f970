"""The one exception that a user is meant to read."""


class UserError(Exception):
    """Something the user can put right: shown as one line ``error: ...`` on stderr, exit code 2, never as a traceback.

    The message says what was given, what was expected and what to do.
    """
