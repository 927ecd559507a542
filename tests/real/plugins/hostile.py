"""Plugins that misbehave, each in one way. Only the standard library, so that they start at once."""

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
    say(f"1|1|unix|{path}|grpc|")
    say("died of shame", sys.stderr)
    sys.exit(4)
elif kind == "handshake-hang":
    server, path = listen()
    say(f"1|1|unix|{path}|grpc|")
    forever()
elif kind == "closed-stdout":
    os.close(1)
    forever()
elif kind == "no-newline":
    flood(1, 1, b"z")
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
