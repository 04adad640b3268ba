"""Run as a script between fork and the real program: pins the process, ties its life to its parent, becomes it.

    python -I -S tether.py PARENT_PID CORES PROGRAM ARGUMENT...

`CORES` is a comma-separated list, or `-` to leave the process unpinned. A child of a parent that is killed outright
gets no chance to be stopped by it; on Linux the kernel does that where it was asked to. Elsewhere only the parent's
own clean-up remains. This is a program of its own because code between fork and exec in a process with threads can
deadlock.
"""

from __future__ import annotations

import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Pin, tie, and become the program."""
    parent, cores, program = int(arguments[0]), arguments[1], arguments[2:]
    if cores != "-" and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            # The parent died before it could be watched.
            sys.exit(1)
    os.execv(program[0], program)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
