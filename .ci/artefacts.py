"""Builds what is released, twice, checks it, and runs tests on it without the checkout: `tox -e artefacts`.

    python .ci/artefacts.py DIRECTORY [arguments for pytest]

DIRECTORY/dist then holds the sdist and the wheel. The tests come from the sdist; the package that they test is
the wheel, in an environment of its own. Exit status 1: one of the steps failed, and its output says why.
"""

from __future__ import annotations

import gzip
import io
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
RATING = 8
"""What pyroma must say at least, of 10. It misses a mail address and a home page, which the project has not."""


def run(*command: str | Path, cwd: Path | None = None, epoch: str = "") -> str:
    """Run a command; what it prints is shown when it fails, and returned."""
    environment = dict(os.environ)
    if epoch:
        environment["SOURCE_DATE_EPOCH"] = epoch
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        print(done.stdout)
        raise SystemExit(f"failed with exit status {done.returncode}: {' '.join(map(str, command))}")
    return done.stdout


def checked_out(directory: Path) -> str:
    """Write the last commit into a directory, and return its time."""
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=HERE, check=True, stdout=subprocess.PIPE).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(directory, filter="data")
    return run("git", "log", "-1", "--format=%ct", cwd=HERE).strip()


def repacked(sdist: Path, epoch: int) -> None:
    """Make an sdist depend on its contents alone: setuptools writes times and owners as they are."""
    with tarfile.open(sdist) as tar:
        found = [(member, tar.extractfile(member)) for member in tar.getmembers()]
        found.sort(key=lambda each: each[0].name)
        with (
            sdist.with_suffix(".new").open("wb") as raw,
            gzip.GzipFile("", "wb", fileobj=raw, mtime=epoch) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as new,
        ):
            for member, contents in found:
                member.mtime, member.uid, member.gid, member.uname, member.gname = epoch, 0, 0, "", ""
                member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
                member.pax_headers = {}
                new.addfile(member, contents)
    sdist.with_suffix(".new").replace(sdist)


def built(directory: Path) -> dict[str, bytes]:
    """Build sdist and wheel of the last commit in an empty directory."""
    source, dist = directory / "source", directory / "dist"
    epoch = checked_out(source)
    run(sys.executable, "-m", "build", "--installer", "uv", "--outdir", dist, source, epoch=epoch)
    (sdist,) = dist.glob("*.tar.gz")
    repacked(sdist, int(epoch))
    return {path.name: path.read_bytes() for path in sorted(dist.iterdir())}


def check(dist: Path) -> None:
    """Have the tools of others look at what was built."""
    (sdist,), (wheel,) = dist.glob("*.tar.gz"), dist.glob("*.whl")
    run(sys.executable, "-m", "twine", "check", "--strict", sdist, wheel)
    run(sys.executable, "-m", "check_wheel_contents", wheel)
    run(sys.executable, "-m", "pyroma", "--min", str(RATING), sdist)


def test(directory: Path, arguments: list[str]) -> int:
    """Install the wheel, and run the tests of the sdist on it."""
    (sdist,), (wheel,) = (directory / "dist").glob("*.tar.gz"), (directory / "dist").glob("*.whl")
    with tarfile.open(sdist) as tar:
        tar.extractall(directory, filter="data")
    unpacked = directory / sdist.name.removesuffix(".tar.gz")
    shutil.rmtree(unpacked / "fsm_conn")
    run(sys.executable, "-m", "uv", "venv", "-q", "--python", sys.executable, directory / "env")
    python = directory / "env" / ("Scripts" if os.name == "nt" else "bin") / "python"
    run(sys.executable, "-m", "uv", "pip", "install", "-q", "--python", python, f"{wheel}[test]")
    return subprocess.run([python, "-P", "-m", "pytest", *arguments], cwd=unpacked).returncode


def main() -> int:
    """Build, compare, check, test."""
    directory, arguments = Path(sys.argv[1]).resolve(), sys.argv[2:]
    shutil.rmtree(directory, ignore_errors=True)
    first, second = built(directory / "first"), built(directory / "second")
    if first != second:
        differ = [name for name in first if first[name] != second.get(name)]
        raise SystemExit(f"built twice from one commit, these differ: {', '.join(differ)}")
    shutil.move(directory / "first" / "dist", directory / "dist")
    for copy in ("first", "second"):
        shutil.rmtree(directory / copy)
    check(directory / "dist")
    for name, contents in first.items():
        print(f"{name}: {len(contents) / 1024:.0f} KiB, the same bytes twice, checked")
    return test(directory, arguments)


if __name__ == "__main__":
    sys.exit(main())
