"""The command line: ``python -m diskcache_rs``."""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
from collections.abc import Sequence

from ._exceptions import Timeout
from ._migrate import Refused, migrate
from ._native import VERSION, examine_drive
from ._rows import RawCache, find_caches
from ._transfer import MARKER, export, import_file

DONE, NOT_RIGHT, REFUSED, FAILED = 0, 1, 2, 3

_ABOUT = """\
Look after the caches of diskcache_rs and the drives that they live on: move one over from python-diskcache, put one into a file and
back, check it.

DIR is the directory of a Cache, FanoutCache, Deque, Index or of Django's cache; of a FanoutCache all shards are meant, and the
caches, deques and indexes in it. Programs may go on using it, unless a command says otherwise.

examples:
  python -m diskcache_rs doctor /mnt/share                        whether caches can live on that drive
  python -m diskcache_rs migrate /var/cache/old /mnt/share/new    a cache of python-diskcache, to a network drive
  python -m diskcache_rs stats /mnt/share/new                     what is in it, and its settings
  python -m diskcache_rs check --fix /mnt/share/new               after a damaged disk
  python -m diskcache_rs export /mnt/share/new cache.export       to one file, for a backup or another machine
  python -m diskcache_rs import cache.export /var/cache/copy
  python -m diskcache_rs COMMAND --help                           what a command does, and what it does not
"""
_STATUS = """\
exit status:
  0  done, and all is as it should be
  1  done, but something is not right, and was said: damage was found, items differ
  2  refused before anything was changed: wrong arguments, no cache there, a directory that is not empty
  3  failed on the way (the drive, a time-out, Ctrl-C): run the same command again
"""
_MIGRATE = """\
Copy what a directory of python-diskcache (a Cache, FanoutCache, Deque, Index or Django's) holds to a new directory: keys, values
(also those in files), expiry, tags, queues and settings; then compare every item. The order of reads is kept for the eviction
policies least-recently-used and least-frequently-used. Items that have expired, or whose file is gone, are counted and left out:
python-diskcache would not return them either. OLD is only read, and python-diskcache need not be installed; programs that write to
OLD should rest.

If it is ended, the same command goes on where it was. Values are copied as they are stored, nothing is unpickled: pass the Disk
class that the old cache had, if it had its own, when you open the new one.

A FanoutCache is copied shard by shard: open the new one with as many shards.

example:
  python -m diskcache_rs migrate /var/cache/old /mnt/share/new
"""
_EXPORT = """\
Write the caches of DIR to one new FILE with checksums. It appears under its name once it is whole. A cache that is in use is
written item by item, not as of one moment. Items that are damaged are counted and left out. It may lie on another drive than DIR, and
take as much room as the cache's values.

example:
  python -m diskcache_rs export /mnt/share/cache cache.export
"""
_IMPORT = """\
Make a new directory of what `export` wrote. FILE is read through and its checksums compared before anything is made, and DIR
appears under its name once all is there. Items that have expired meanwhile are left out. A file that is damaged, or was cut off, is
refused: nothing is made.

example:
  python -m diskcache_rs import cache.export /var/cache/copy
"""
_CHECK = """\
Read everything in DIR and say what is damaged. With --fix, repair what can be: only entries whose bytes are gone are lost. Without it
nothing is written. It takes as long as reading the whole cache.

example:
  python -m diskcache_rs check --fix /mnt/share/cache
"""
_STATS = """\
Say of each cache in DIR how many items it has (expired ones that are still there included), how many bytes its files take, its size
limit, and the settings that are stored with it. Nothing is written.

example:
  python -m diskcache_rs stats /mnt/share/cache
"""
_DOCTOR = """\
Say what drive DIR is on, what it does, and what to do about each thing that a cache would suffer from. With DIR2, another mount of
the same share (by another host, or at least another client of this one), also what holds between hosts. All is tried in one new
folder in DIR, which is removed.

example:
  python -m diskcache_rs doctor /mnt/share
"""
_DOCTOR_STATUS = """\
exit status:
  0  sound: caches can be shared there (on a local disk: by processes)
  1  the same, but something weakens it, and was said
  2  only one host may write there
  3  no cache can be kept there, or it could not be found out
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except Refused as error:
        _say(f"refused: {error}")
        return REFUSED
    except (OSError, Timeout) as error:
        _say(f"failed: {error}")
        return FAILED
    except KeyboardInterrupt:
        _say("interrupted")
        return FAILED
    return status


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m diskcache_rs", description=_ABOUT, epilog=_STATUS, formatter_class=raw)
    parser.add_argument("--version", action="version", version=f"diskcache_rs {VERSION}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser(
        "migrate", help="copy a cache of python-diskcache", description=_MIGRATE, epilog=_STATUS, formatter_class=raw
    )
    command.add_argument("old", metavar="OLD", help="the directory of python-diskcache")
    command.add_argument("new", metavar="NEW", help="the directory to make")
    command.add_argument("--no-verify", action="store_true", help="do not compare the items at the end")
    command.set_defaults(run=_run_migrate)

    command = commands.add_parser("export", help="write caches to a file", description=_EXPORT, epilog=_STATUS, formatter_class=raw)
    command.add_argument("directory", metavar="DIR", help="the directory to read")
    command.add_argument("file", metavar="FILE", help="the file to make")
    command.set_defaults(run=_run_export)

    command = commands.add_parser("import", help="make caches of such a file", description=_IMPORT, epilog=_STATUS, formatter_class=raw)
    command.add_argument("file", metavar="FILE", help="what export wrote")
    command.add_argument("directory", metavar="DIR", help="the directory to make")
    command.set_defaults(run=_run_import)

    command = commands.add_parser("check", help="look for damage", description=_CHECK, epilog=_STATUS, formatter_class=raw)
    command.add_argument("directory", metavar="DIR", help="the directory to check")
    command.add_argument("--fix", action="store_true", help="repair what can be")
    command.set_defaults(run=_run_check)

    command = commands.add_parser("stats", help="say what is in a directory", description=_STATS, epilog=_STATUS, formatter_class=raw)
    command.add_argument("directory", metavar="DIR", help="the directory to look at")
    command.set_defaults(run=_run_stats)

    command = commands.add_parser(
        "doctor", help="say what a drive is and does", description=_DOCTOR, epilog=_DOCTOR_STATUS, formatter_class=raw
    )
    command.add_argument("directory", metavar="DIR", help="a directory on the drive")
    command.add_argument("peer", metavar="DIR2", nargs="?", help="the same directory through another mount")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(run=_run_doctor)
    return parser


def _say(text: str) -> None:
    print(f"diskcache_rs: {text}", file=sys.stderr)


def _run_doctor(options: argparse.Namespace) -> int:
    for directory in (options.directory, options.peer):
        if directory is not None and not os.path.isdir(directory):
            raise NotADirectoryError(errno.ENOTDIR, "There is no directory to try the drive in; make one, or name another", directory)
    status, verdict, text, rows = examine_drive(options.directory, options.peer)
    if options.json:
        findings = [dict(zip(("severity", "what", "found", "advice"), row, strict=True)) for row in rows]
        print(json.dumps({"verdict": verdict, "status": status, "findings": findings}, indent=1))
    else:
        print(text, end="")
    return status


def _run_migrate(options: argparse.Namespace) -> int:
    totals = migrate(options.old, options.new, _say, verify=not options.no_verify)
    how = "copied" if options.no_verify else "copied and compared"
    print(f"{totals.copied} items {how} from {options.old} to {options.new}")
    for count, what in ((totals.expired, "had expired"), (totals.missing, "had lost their files")):
        if count:
            print(f"{count} items {what} and were left out")
    if totals.wrong:
        print(f"{totals.wrong} differences were found; run it again to copy once more")
    return NOT_RIGHT if totals.wrong else DONE


def _run_export(options: argparse.Namespace) -> int:
    items, damaged = export(options.directory, options.file)
    print(f"{items} items written to {options.file} ({os.path.getsize(options.file)} bytes)")
    if damaged:
        print(f"{damaged} items were left out: they are damaged, or went away meanwhile")
    return NOT_RIGHT if damaged else DONE


def _run_import(options: argparse.Namespace) -> int:
    stored, expired = import_file(options.file, options.directory)
    print(f"{stored} items stored in {options.directory}")
    if expired:
        print(f"{expired} items had expired and were left out")
    return DONE


def _folders(directory: str) -> list[str]:
    folders = find_caches(directory, MARKER)
    if not folders:
        raise Refused(f"there is no cache in {directory} (no {MARKER} there or below)")
    return [os.path.normpath(os.path.join(directory, folder)) for folder in folders]


def _run_check(options: argparse.Namespace) -> int:
    left = 0
    for folder in _folders(options.directory):
        # Of no disk class in particular: settings that only its own one understands do not matter here.
        with RawCache(folder, read_only=not options.fix).cache as cache:
            for path, what, is_fixed in cache._check(options.fix, True):
                print(f"{what}{' (repaired)' if is_fixed else ''}: {path}")
                left += not is_fixed
    print(f"{left} problems are left" if left else f"no problem {'is left' if options.fix else 'was found'}")
    return NOT_RIGHT if left else DONE


def _run_stats(options: argparse.Namespace) -> int:
    for folder in _folders(options.directory):
        with RawCache(folder, read_only=True).cache as cache:
            print(f"{folder}: {len(cache)} items, {cache.volume()} bytes of {cache.size_limit}")
            for name, value in sorted(cache._settings().items()):
                print(f"  {name} = {value!r}")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
