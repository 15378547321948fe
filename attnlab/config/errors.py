"""The error of a mistake in a user's input."""


class UserError(Exception):
    """What is wrong, where (file:line or path of the key), and what would be right: one line, no traceback.

    The command line prints it as `attnlab: <line>` and exits with code 2.
    """
