"""A disk class that writes another format."""

import json
from typing import Any

from diskcache_rs import UNKNOWN, Cache, Disk, JSONDisk


class LineDisk(Disk):
    def put(self, key: Any) -> tuple[Any, bool]:
        return super().put(json.dumps(key))

    def get(self, key: Any, raw: bool) -> Any:
        return json.loads(super().get(key, raw))

    def store(self, value: Any, read: bool, key: Any = UNKNOWN) -> tuple[int, int, str | None, Any]:
        return super().store(value if read else json.dumps(value), read, key=key)

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        data = super().fetch(mode, filename, value, read)
        return data if read else json.loads(data)


def main() -> None:
    for kind in (LineDisk, JSONDisk):
        with Cache(disk=kind, disk_pickle_protocol=4) as cache:
            cache["key"] = {"a": [1]}
            print(cache.disk.pickle_protocol)
