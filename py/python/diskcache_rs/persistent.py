"""`Deque` and `Index`: a deque and an ordered dictionary on disk, shared as a `Cache` is."""

from ._deque import Deque
from ._index import Index

__all__ = ["Deque", "Index"]
