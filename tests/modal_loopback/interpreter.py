"""Python interpreter of containers: this one's packages without the project itself."""

from __future__ import annotations

import site
import sys
import sysconfig
from pathlib import Path


def make_interpreter(folder: Path) -> Path:
    """Create a virtual environment with this one's packages and return its interpreter.

    Its only .pth file names the folders of packages. A .pth file inside such a folder is not read, so an editable
    install has no effect, neither in a container's first program nor in any that it starts with `sys.executable`.

    Args:
        folder: Does not exist yet.
    """
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = folder / "lib" / version / "site-packages"
    packages.mkdir(parents=True)
    (folder / "bin").mkdir()
    base = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    for name in ("python", "python3"):
        (folder / "bin" / name).symlink_to(base)
    (folder / "pyvenv.cfg").write_text(f"home = {base.parent}\ninclude-system-site-packages = false\n")
    found = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()]
    (packages / "packages.pth").write_text("".join(f"{path}\n" for path in dict.fromkeys(found)))
    return folder / "bin" / "python"
