"""`python leash.py PARENT COMMAND…`: become COMMAND, and be killed by the kernel when the parent dies. Linux.

A separate program, because `preexec_fn` runs Python in a fork of a process with threads, which may hang. The order
matters: if the parent died before `prctl`, the kernel would never send the signal, so the parent is checked afterwards.
The death signal survives `execv`.

"Parent" means the *thread* that started us (prctl(2), PR_SET_PDEATHSIG), so children are started from the main thread.
SIGKILL, because it is the one signal that surely ends a child; the daemon is made for that.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def leashed(command: list[str]) -> list[str]:
    """The command that runs `command` on a leash held by this process; `command` itself except on Linux."""
    if sys.platform != "linux":
        return command
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def main(parent: int, command: list[str]) -> None:
    """Does not return."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0):
        sys.exit(f"prctl(PR_SET_PDEATHSIG): {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        sys.exit("the demo has ended already")
    os.execv(command[0], command)  # noqa: S606 -- no shell is the point


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
