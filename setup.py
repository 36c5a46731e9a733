"""Put configs and tools into the wheel, where mim and the ``fastervit`` command look for them."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


class BuildWithConfigs(build_py):
    """Copy ``configs``, ``tools`` and ``requirements.txt`` into ``fastervit_backbone/.mim``."""

    def run(self) -> None:
        """Build, then copy; an editable install reads them from the checkout."""
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / 'fastervit_backbone' / '.mim'
        for name in ('configs', 'tools'):
            shutil.copytree(
                ROOT / name, target / name, ignore=shutil.ignore_patterns('__pycache__'), dirs_exist_ok=True
            )

        shutil.copy2(ROOT / 'requirements.txt', target)  # fastervit doctor names the versions


setup(cmdclass={'build_py': BuildWithConfigs})
