"""The error of a person's input, told in one line."""


class UserError(Exception):
    """What is wrong, where (file:line or path of the key), and what would be right: one line, no traceback.

    The command line prints it as `attnlab: <line>` and exits with code 2.
    """
