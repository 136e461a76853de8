"""Builds what a release publishes, and checks what is in it: wheels, source archives and the npm package.

    python -m deploy.release --out dist [--tag v0.1.0]

It builds from copies of the files that git tracks: an older ``build`` folder would add files that are gone.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
#: Folders of the distributions, and the packages that their wheels hold, with the folder of each.
DISTRIBUTIONS: Final[dict[str, dict[str, str]]] = {
    ".": {
        **{name: name for name in ("contracts", "kit", "services", "modal_workers", "simulators", "cli")},
        "saccade_client": "clients/python/saccade_client",
        "saccade_events": "clients/events/saccade_events",
        "saccade_robot": "clients/lerobot/robot_client/saccade_robot",
    },
    "contracts": {"contracts": "contracts"},
    "clients/python": {"saccade_client": "clients/python/saccade_client"},
    "clients/events": {"saccade_events": "clients/events/saccade_events"},
    "clients/lerobot/robot_client": {"saccade_robot": "clients/lerobot/robot_client/saccade_robot"},
    "clients/lerobot/plugin": {"lerobot_robot_saccade": "clients/lerobot/plugin/lerobot_robot_saccade"},
}
NPM: Final = "clients/js"
#: Pages for readers of the repository, which no program reads.
_PAGES: Final = (".md",)
_BUILD: Final = """
import sys
from setuptools import build_meta

out = sys.argv[1]  # which build_meta replaces
build_meta.build_wheel(out)
build_meta.build_sdist(out)
"""
#: Starts the command line from the folder that is its first argument alone.
_START: Final = """
import sys

sys.path.insert(0, sys.argv[1])
from cli.__main__ import main

sys.argv = ["saccade", "--help"]
main()
"""
_LICENCE: Final = ("LICENSE", "NOTICE")


class ReleaseError(Exception):
    """A package that would be published is wrong or missing."""


def tracked() -> list[str]:
    """Return the paths of the files that git tracks."""
    listed = _run(["git", "ls-files"], ROOT)
    return [path for path in listed.splitlines() if (ROOT / path).is_file()]


def versions() -> dict[str, str]:
    """Return the version of each package, by its folder."""
    found = {
        folder: str(tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]["version"])
        for folder in DISTRIBUTIONS
    }
    return found | {NPM: str(json.loads((ROOT / NPM / "package.json").read_text())["version"])}


def one_version(tag: str | None) -> str:
    """Return the version that all packages have.

    Raises:
        ReleaseError: they differ, or the tag names another one.
    """
    found = versions()
    if len(set(found.values())) != 1:
        raise ReleaseError(f"the packages have different versions: {found}")
    version = next(iter(found.values()))
    if tag and tag != f"v{version}":
        raise ReleaseError(f"the tag is {tag}, but the packages have the version {version}: the tag is v{version}")
    return version


def build(out: Path) -> None:
    """Build everything into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary) / "source"
        for path in tracked():
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, source / path)
        for folder in [*DISTRIBUTIONS, NPM]:
            for text in _LICENCE:
                shutil.copy(ROOT / text, source / folder)
        for folder in DISTRIBUTIONS:
            _run([sys.executable, "-c", _BUILD, str(out.resolve())], source / folder)
        _run(["npm", "pack", "--silent", "--pack-destination", str(out.resolve())], source / NPM)


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=600
    )
    if done.returncode:
        raise ReleaseError(f"{' '.join(command[:2])} in {folder.name} failed:\n{done.stdout[-3000:]}")
    return done.stdout


def check(out: Path) -> list[str]:
    """Return what is built, after a look into each file.

    Raises:
        ReleaseError: a file is missing, or there is one that should not be.
    """
    version = one_version(None)
    built = sorted(path.name for path in out.iterdir())
    for folder, packages in DISTRIBUTIONS.items():
        name = tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]["name"].replace("-", "_")
        _check_wheel(out / f"{name}-{version}-py3-none-any.whl", packages)
        _check_source(out / f"{name}-{version}.tar.gz", folder, packages)
    _check_npm(out / f"{json.loads((ROOT / NPM / 'package.json').read_text())['name']}-{version}.tgz")
    if len(built) != 2 * len(DISTRIBUTIONS) + 1:
        raise ReleaseError(f"{out} holds other files too: {built}")
    _starts(out / f"saccade_server-{version}-py3-none-any.whl")
    return built


def _expected(packages: dict[str, str]) -> set[str]:
    """Return the files of packages, as a wheel names them."""
    return {
        package + path.removeprefix(folder)
        for package, folder in packages.items()
        for path in tracked()
        if path.startswith(f"{folder}/") and not path.endswith((*_PAGES, "pyproject.toml"))
    }


def _check_wheel(wheel: Path, packages: dict[str, str]) -> None:
    if not wheel.is_file():
        raise ReleaseError(f"{wheel.name} was not built")
    held = set(zipfile.ZipFile(wheel).namelist())
    about = {name for name in held if ".dist-info/" in name}
    code = {name for name in held - about if not name.endswith(_PAGES)}
    expected = _expected(packages)
    if missing := sorted(expected - code):
        raise ReleaseError(f"{wheel.name} lacks {missing[:10]}")
    if more := sorted(code - expected):
        raise ReleaseError(f"{wheel.name} holds {more[:10]}, which git does not track there")
    if not any("/licenses/" in name for name in about):
        raise ReleaseError(f"{wheel.name} has no licence")


def _check_source(archive: Path, folder: str, packages: dict[str, str]) -> None:
    if not archive.is_file():
        raise ReleaseError(f"{archive.name} was not built")
    with tarfile.open(archive) as opened:
        held = {name.partition("/")[2] for name in opened.getnames()}
    for needed in ("pyproject.toml", "LICENSE"):
        if needed not in held:
            raise ReleaseError(f"{archive.name} lacks {needed}")
    sources = {path for path in tracked() if path.startswith(tuple(f"{package}/" for package in packages.values()))}
    wanted = {path.removeprefix("" if folder == "." else f"{folder}/") for path in sources}
    if missing := sorted(path for path in wanted - held if not path.endswith((*_PAGES, "pyproject.toml"))):
        raise ReleaseError(f"{archive.name} lacks {missing[:10]}")


def _check_npm(archive: Path) -> None:
    if not archive.is_file():
        raise ReleaseError(f"{archive.name} was not built")
    wanted = {*json.loads((ROOT / NPM / "package.json").read_text())["files"], "package.json", "LICENSE"}
    with tarfile.open(archive) as opened:
        held = {name.removeprefix("package/") for name in opened.getnames()}
    if held != wanted:
        raise ReleaseError(f"{archive.name} holds {sorted(held)}, not {sorted(wanted)}")


def _starts(wheel: Path) -> None:
    """Start the command line from the wheel alone, with the libraries of this Python."""
    with tempfile.TemporaryDirectory() as name:
        shutil.unpack_archive(wheel, name, "zip")
        _run([sys.executable, "-P", "-c", _START, name], Path(name))


def main() -> int:
    """Build and check; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="empty or new folder for what is built")
    parser.add_argument("--tag", help="tag of the release: v and the version")
    options = parser.parse_args()
    try:
        one_version(options.tag)
        build(options.out)
        for name in check(options.out):
            sys.stdout.write(f"{(options.out / name).stat().st_size / 1024:9.0f} KiB  {name}\n")
    except ReleaseError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
