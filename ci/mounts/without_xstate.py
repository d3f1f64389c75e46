#!/usr/bin/env python3
"""without_xstate.py COMMAND [ARG...]: runs COMMAND so that ptrace offers it only the x87 and SSE registers of others.

User-Mode Linux 6.1 keeps its guests' vector registers in a buffer of 832 bytes, which is what a CPU with AVX has. Newer
CPUs (AVX-512, protection keys, AMX) have more, their kernel takes all or nothing, and the guest's first process dies.
When the host says that it knows no extended state, User-Mode Linux falls back to the 512 bytes that every x86-64 has:
so this answers EINVAL to ptrace(PTRACE_GETREGSET, .., NT_X86_XSTATE), by a seccomp filter that children inherit.

What programs in the guest must not do then is to use wider registers: ci/mounts/uml tells their glibc not to.
"""

import ctypes
import os
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
AUDIT_ARCH_X86_64, NR_PTRACE = 0xC000003E, 101
PTRACE_GETREGSET, NT_X86_XSTATE = 0x4204, 0x202
EINVAL = 22
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
# Where struct seccomp_data has them (the low halves of the arguments).
NR, ARCH, ARG0, ARG2 = 0, 4, 16, 32


def program() -> bytes:
    """Returns the filter: each test falls through when it holds, and jumps to the last line (allow) when not."""
    tests = [(ARCH, AUDIT_ARCH_X86_64), (NR, NR_PTRACE), (ARG0, PTRACE_GETREGSET), (ARG2, NT_X86_XSTATE)]
    lines: list[tuple[int, int, int, int]] = []
    for done, (offset, value) in enumerate(tests):
        after = 2 * (len(tests) - done - 1)  # instructions of the tests that follow
        lines += [(LOAD, 0, 0, offset), (EQUAL, 0, after + 1, value)]
    lines += [(RETURN, 0, 0, ERRNO | EINVAL), (RETURN, 0, 0, ALLOW)]
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


def install() -> None:
    """Sets the filter for this process and all that it starts."""
    libc = ctypes.CDLL(None, use_errno=True)
    code = ctypes.create_string_buffer(program())
    head = ctypes.create_string_buffer(struct.pack("@HP", (len(code) - 1) // 8, ctypes.addressof(code)))
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, head, 0, 0):
        error = ctypes.get_errno()
        raise OSError(error, f"could not set a seccomp filter: {os.strerror(error)}")


if __name__ == "__main__":
    install()
    os.execvp(sys.argv[1], sys.argv[1:])
