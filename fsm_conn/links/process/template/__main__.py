"""The template of a plugin: a process that has imported the plugin's libraries, and is forked for each start.

It is a separate program. The host runs it with the plugin's interpreter, environment and directory, and talks to it
over a socket that nobody else has: length-prefixed fields, with descriptors beside them. It may run where fsm_conn is
not installed, so it imports nothing of fsm_conn, and little else: plugins start with everything that it imports.

A plugin is a child of the *host*, not of the template: the host waits for the plugin, learns its exit status and is its
parent for the parent-death signal. A template that dies takes no plugin along.
"""

from __future__ import annotations

import os
import socket
import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fsm_conn.links.process.template import becoming, forking, importing, sharing, sources
else:
    import becoming
    import forking
    import importing
    import sharing
    import sources

# The plugin may have modules of these names.
for _name in ("becoming", "forking", "importing", "sharing", "sources"):
    del sys.modules[_name]

LENGTH = struct.Struct("!I")
CHUNK = 65536


def receive(channel: socket.socket) -> tuple[list[bytes], list[int]]:
    """Wait for the fields of one message, and the descriptors beside it. No fields: the host is gone."""
    room = socket.CMSG_SPACE(3 * struct.calcsize("i"))
    head, beside, _, _ = channel.recvmsg(LENGTH.size, room, socket.MSG_CMSG_CLOEXEC)
    descriptors = [fd for _, _, data in beside for (fd,) in struct.iter_unpack("i", data)]
    while 0 < len(head) < LENGTH.size and (more := channel.recv(LENGTH.size - len(head))):
        head += more
    if len(head) < LENGTH.size:
        return [], descriptors
    data = bytearray()
    (length,) = LENGTH.unpack(head)
    while len(data) < length:
        if not (more := channel.recv(min(length - len(data), CHUNK))):
            return [], descriptors
        data += more
    return bytes(data).split(b"\0"), descriptors


def send(channel: socket.socket, text: str) -> None:
    """Send a message to the host."""
    data = text.encode("utf-8", "replace")
    channel.sendall(LENGTH.pack(len(data)) + data)


def serve(channel: socket.socket) -> becoming.Order:
    """Be the template until the host closes the socket. This returns in each plugin, and only there."""
    beginning = becoming.Beginning(channel.fileno())
    files = sources.Sources()
    try:
        forks = forking.Forks()
        said = becoming.Fields(receive(channel)[0])
        kind, program, directory, beginning.varying = said.one(), said.one(), said.one(), said.many()
        imports = importing.Imports(kind, program, directory, beginning.varying)
        imports.make(said.many(), said.many(), said.many())
        beginning.end_of_imports(keeps=bool(kind))
        files.note(imports.file)
        forks.stop_threads()
        sharing.check(beginning.ours)
        sharing.check_memory()
    except forking.CannotForkError as error:
        send(channel, f"{error.mark}{error}")
        os._exit(0)
    becoming.freeze()
    send(channel, "+")
    while True:
        order, pipes = wait(channel)
        if files.have_changed():
            send(channel, "!what it has imported has changed on disk")
            os._exit(0)
        try:
            imports.check_arguments(order.arguments)
            kept = sharing.check(beginning.ours | {*pipes})
            pid = forks.fork()
        except (forking.CannotForkError, OSError) as error:
            send(channel, f"-{error}")
        else:
            if pid == 0:
                os.close(channel.detach())
                becoming.become(order, pipes, kept, beginning)
                imports.renew_arguments()
                return order
            send(channel, f"+{pid}")
        for fd in pipes:
            os.close(fd)


def wait(channel: socket.socket) -> tuple[becoming.Order, list[int]]:
    """Wait for the next plugin, and the descriptors for it. The end of the host is the end of the template."""
    fields, pipes = receive(channel)
    if not fields:
        os._exit(0)
    return becoming.Order(becoming.Fields(fields)), pipes


if __name__ == "__main__":
    becoming.run(serve(socket.socket(fileno=int(sys.argv[1]))))
