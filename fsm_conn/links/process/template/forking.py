"""Forks a process so that the child becomes a child of the process's own parent.

That needs the system call itself: clone with CLONE_PARENT. The rest of what `os.fork` and glibc's `fork` do is done
here, too: Python's hooks, the number of the thread, the list of its robust locks. Handlers of C libraries
(`pthread_atfork`) are not called: they care for other threads, and there are no other threads (`stop_threads`).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

CLONE_PARENT, CLONE_CHILD_CLEARTID, CLONE_CHILD_SETTID = 0x8000, 0x200000, 0x1000000

# By machine: the numbers of clone, get_robust_list and set_robust_list, and the position of clone's child_tid argument.
SYSTEM_CALLS = {"x86_64": (56, 274, 273, 3), "aarch64": (220, 100, 99, 4), "riscv64": (220, 100, 99, 4)}


class CannotForkError(Exception):
    """Why the plugin must be started without a template."""

    mark = "-"
    """How the host is told."""


class CannotImportError(CannotForkError):
    """The same, where another template may find it otherwise."""

    mark = "~"


class Forks:
    """Makes children of the host that are copies of this process.

    Raises:
        CannotForkError: it is not known how to do this on this system.
    """

    def __init__(self) -> None:
        machine = os.uname().machine
        if machine not in SYSTEM_CALLS or sys.maxsize < 2**32 or sys.implementation.name != "cpython":
            raise CannotForkError(f"forking {sys.implementation.name} on {machine} is not supported")
        clone, get_list, set_list, place = SYSTEM_CALLS[machine]
        self._libc = ctypes.PyDLL(None, use_errno=True)
        self._python = ctypes.pythonapi
        # Looked up once, because nothing may happen between the call and what must follow it.
        self._call = self._libc.syscall
        self._call.restype = ctypes.c_long
        self._head, self._size = ctypes.c_void_p(), ctypes.c_size_t()
        self._call(ctypes.c_long(get_list), ctypes.c_long(0), ctypes.byref(self._head), ctypes.byref(self._size))
        arguments = [0, signal.SIGCHLD | CLONE_PARENT | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID, 0, 0, 0, 0]
        arguments[0], arguments[place + 1] = clone, self._thread_number()
        self._arguments = [ctypes.c_long(argument) for argument in arguments]
        self._robust = (ctypes.c_long(set_list), self._head, self._size)

    def _thread_number(self) -> int:
        """The address where glibc keeps the number of this thread; a child's must be written there.

        It stands two words before the list of robust locks. The kernel tells an address, too (`PR_GET_TID_ADDRESS`):
        that of what it clears when the thread ends, which from glibc 2.43 on is something else.
        """
        address = (self._head.value or 0) - 16
        if address < 0 or ctypes.c_int.from_address(address).value != os.getpid():
            raise CannotForkError("this system does not tell what a fork has to know: that needs glibc")
        return address

    def fork(self) -> int:
        """Like `os.fork`, but the child is a sibling of this process."""
        call, arguments, robust = self._call, self._arguments, self._robust
        after_in_child, after_in_parent = self._python.PyOS_AfterFork_Child, self._python.PyOS_AfterFork_Parent
        self._python.PyOS_BeforeFork()
        pid = int(call(*arguments))
        if pid == 0:
            call(*robust)
            after_in_child()
            return 0
        after_in_parent()
        if pid < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return pid

    def stop_threads(self) -> None:
        """Have C libraries stop their threads, such as numpy's, which start again when they are needed.

        They ask to be told before a fork (`pthread_atfork`). Of a real one they are; its child ends at once.
        """
        if len(os.listdir("/proc/self/task")) == 1:
            return
        pid = self._libc.fork()
        if pid == 0:
            os._exit(0)
        if pid > 0:
            os.waitpid(pid, 0)
