"""Pointers of Git LFS: what a clone holds in the place of large files where Git LFS is not installed."""

from attnlab.config.errors import UserError

POINTER = b"version https://git-lfs.github.com/spec/"


def refuse_pointer(content: bytes, where: object) -> None:
    """Refuse a file that is a pointer, and say how the file itself is fetched.

    Args:
        content: of the file, at least its first 40 bytes.
        where: what an error calls it.

    >>> refuse_pointer(b"PK", "images.npz")
    """
    if content.startswith(POINTER):
        raise UserError(
            f"{where}: a pointer of Git LFS, not the file itself; in the clone it came with run "
            "git lfs install && git lfs pull"
        )
