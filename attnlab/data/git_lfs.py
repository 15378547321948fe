"""Git LFS pointers, which a clone without Git LFS contains instead of large files."""

from attnlab.config.errors import UserError

POINTER = b"version https://git-lfs.github.com/spec/"


def refuse_pointer(content: bytes, where: object) -> None:
    """Raise if a file is a Git LFS pointer; the error says how to fetch the file itself.

    Args:
        content: the file, or at least its first 40 bytes.
        where: name of the file for the error.

    >>> refuse_pointer(b"PK", "images.npz")
    """
    if content.startswith(POINTER):
        raise UserError(
            f"{where}: a Git LFS pointer, not the file itself; run git lfs install && git lfs pull in its repository"
        )
