"""The error for a mistake in a user's input."""


class UserError(Exception):
    """A mistake in a user's input: one line with its place (file:line or path of the key) and a valid alternative.

    The command line prints it as `attnlab: <line>`, without a traceback, and exits with code 2.
    """
