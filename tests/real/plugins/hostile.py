"""Plugins that misbehave before they serve, each in one way. Only the standard library, so that they start at once.

With $TELL set, each begins by telling what nobody is to know. What misbehaves while it serves is in hostile_server.py.
"""

import os
import signal
import socket
import subprocess
import sys
import time

kind, *rest = sys.argv[1:]


def say(text, stream=sys.stdout):
    stream.write(text + "\n")
    stream.flush()


def listen():
    path = os.path.join(os.environ["TMPDIR"], "s.sock")
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()
    return server, path


def flood(fd, megabytes, chunk=b"x" * 99 + b"\n"):
    data = chunk * (65536 // len(chunk))
    for _ in range(megabytes * 16):
        os.write(fd, data)


def forever():
    while True:
        time.sleep(3600)


def announce(path, certificate=""):
    say(f"1|1|unix|{path}|grpc|{certificate}")


if "TELL" in os.environ:
    say("token {API_TOKEN} cookie {PLUGIN_MAGIC_COOKIE} host {HOST_PASSWORD}".format(**os.environ), sys.stderr)

if kind == "silent":
    say("starting", sys.stderr)
    forever()
elif kind == "garbage":
    say("hello, I am no plugin")
    forever()
elif kind == "garbage-exit":
    say("usage: thing [options]")
    sys.exit(2)
elif kind == "line":
    say(rest[0].replace("TMPDIR", os.environ["TMPDIR"]))
    forever()
elif kind == "exit":
    say("no license found\nset LICENSE", sys.stderr)
    sys.exit(3)
elif kind == "handshake-exit":
    server, path = listen()
    announce(path)
    say("died of shame", sys.stderr)
    sys.exit(4)
elif kind == "handshake-hang":
    server, path = listen()
    announce(path)
    forever()
elif kind == "handshake-certificate":
    server, path = listen()
    announce(path, "anVuayBhbmQgbW9yZSBqdW5r")
    forever()
elif kind == "handshake-twice":
    server, path = listen()
    say(f"1|1|unix|{path}|grpc|\n1|1|unix|/nowhere|grpc|")
    sys.exit(6)
elif kind == "handshake-hangs-up":
    server, path = listen()
    announce(path)
    while True:
        server.accept()[0].close()
elif kind == "handshake-http":
    server, path = listen()
    announce(path)
    while True:
        server.accept()[0].sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
elif kind == "half-a-line":
    sys.stdout.write("1|1|unix|/tm")
    sys.stdout.flush()
    forever()
elif kind == "binary":
    os.write(1, bytes(range(255, 10, -1)) + b"\x1b]0;owned\x07\x1b[2J\n")
    forever()
elif kind == "without-a-word":
    sys.exit(0)
elif kind == "stopped":
    say("tired", sys.stderr)
    os.kill(os.getpid(), signal.SIGSTOP)
elif kind == "silent-stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say("I stay", sys.stderr)
    forever()
elif kind == "crash":
    say("about to crash", sys.stderr)
    os.kill(os.getpid(), signal.SIGSEGV)
elif kind == "socket-link":
    server, path = listen()
    os.symlink(path, path + ".link")
    announce(path + ".link")
    forever()
elif kind == "socket-directory-link":
    os.symlink(os.path.dirname(rest[0]), os.path.join(os.environ["TMPDIR"], "d"))
    announce(os.path.join(os.environ["TMPDIR"], "d", os.path.basename(rest[0])))
    forever()
elif kind == "socket-file":
    path = os.path.join(os.environ["TMPDIR"], "s.sock")
    open(path, "w").close()
    announce(path)
    forever()
elif kind == "first-flood":
    flood(int(rest[0]), int(rest[1]))
    say("flooded", sys.stderr)
    say("1|1|tcp|127.0.0.1:1|grpc|")
    forever()
elif kind == "closed-stdout":
    os.close(1)
    forever()
elif kind == "no-newline":
    flood(1, int(rest[0]) if rest else 1, b"z")
    forever()
elif kind == "cookie-python":
    cookie = os.environ["PLUGIN_MAGIC_COOKIE"]
    say(f"Magic cookie mismatch. Expected: 'the-plugins-own', Received: '{cookie}'.", sys.stderr)
    sys.exit(1)
elif kind == "cookie-go":
    say("This binary is a plugin. These are not meant to be executed directly.", sys.stderr)
    sys.exit(1)
elif kind == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say("ready")
    forever()
elif kind == "child-keeps-pipes":
    child = subprocess.Popen([sys.executable, "-S", "-E", "-c", "import time; time.sleep(3600)"])
    say(str(child.pid))
    say("parent ends", sys.stderr)
    sys.exit(5)
elif kind == "flood":
    say("ready")
    flood(int(rest[0]), int(rest[1]))
    say("flooded", sys.stderr)
    forever()
elif kind == "env":
    say(os.environ.get(rest[0], ""))
    say(os.environ.get(rest[0], ""), sys.stderr)
    forever()
elif kind == "mess":
    for name in ("TMPDIR",):
        base = os.environ[name]
        os.mkdir(os.path.join(base, "sub"))
        os.symlink(rest[0], os.path.join(base, "sub", "link"))
        os.symlink(rest[0], os.path.join(base, "link"))
    say(base)
    forever()
elif kind == "deep":
    base = os.environ["TMPDIR"]
    os.chdir(base)
    for _ in range(int(rest[0])):
        os.mkdir("d")
        os.chdir("d")
    say(base)
    forever()
elif kind == "replace-directory":
    base = os.environ["TMPDIR"]
    os.rmdir(base)
    os.symlink(rest[0], base)
    say(base)
    forever()
else:
    sys.exit(f"no such kind: {kind}")
