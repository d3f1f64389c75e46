"""A stored value as a file."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._native import ValueFile


class RawValue(io.RawIOBase):
    """The unbuffered file of a value; `open_value` puts a buffer in front."""

    def __init__(self, value: ValueFile) -> None:
        super().__init__()
        self._value = value
        self.name = value.path or "<value>"
        self.mode = "rb"

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Read into `buffer` and return how many bytes."""
        self._checkOpen()
        with memoryview(buffer).cast("B") as view:
            data = self._value.read(len(view))
            view[: len(data)] = data
            return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to `offset` and return the position."""
        self._checkOpen()
        return self._value.seek(offset, whence)

    def _checkOpen(self) -> None:  # noqa: N802
        if self.closed:
            raise ValueError("I/O operation on closed file")


def open_value(value: ValueFile) -> io.BufferedReader:
    """Return the binary file of a value."""
    return io.BufferedReader(RawValue(value))
