"""`python -m attnlab` is the command `attnlab`."""

import sys

from attnlab.system.interrupt import interruptible_import


def main() -> int:
    """Run the command line."""
    with interruptible_import():
        from attnlab.cli import main
    return main()


if __name__ == "__main__":
    sys.exit(main())
