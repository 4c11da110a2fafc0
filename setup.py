"""Builds the extension module with CMake and Ninja; everything else is in pyproject.toml."""

import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()


class CMakeBuild(build_ext):
    """One CMake release build; the module goes where setuptools wants it."""

    def build_extension(self, ext: Extension) -> None:
        """Configures, builds and copies macart._core."""
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        build = Path(self.build_temp).resolve() / "cmake"
        subprocess.check_call(
            ["cmake", "-S", str(ROOT), "-B", str(build), "-G", "Ninja", "-DMRT_TESTS=OFF",
             "-DCMAKE_BUILD_TYPE=Release", f"-DPython_EXECUTABLE={sys.executable}"]
        )
        subprocess.check_call(["cmake", "--build", str(build), "--target", "_core"])
        built = next((build / "py" / "macart").glob("_core*.so"))
        target.parent.mkdir(parents=True, exist_ok=True)
        self.copy_file(str(built), str(target))


setup(ext_modules=[Extension("macart._core", [])], cmdclass={"build_ext": CMakeBuild})
