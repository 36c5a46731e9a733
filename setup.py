"""Put configs and tools into the wheel, where mmengine, mim and the ``fastervit`` command look for them."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
#: In the package's .mim -> in the checkout. mmengine wants a folder in fastervit_backbone::fastervit/NAME.py;
#: fastervit doctor names the versions of requirements.txt.
CONTENT = {
    'configs/fastervit': 'configs',
    'tools': 'tools',
    'requirements.txt': 'requirements.txt',
}
#: The same for the index of the configs, with what changes in it.
INDEX = {
    'model-index.yml': ('model-index.yml', 'configs/metafile.yml', 'metafile.yml'),
    'metafile.yml': ('configs/metafile.yml', 'Config: configs/', 'Config: configs/fastervit/'),
}


class BuildWithConfigs(build_py):
    """Copy configs, tools, pinned versions and the index of the configs into ``fastervit_backbone/.mim``."""

    def run(self) -> None:
        """Build and copy; an editable install gets links in the checkout, and so sees every change."""
        super().run()
        parent = ROOT if self.editable_mode else Path(self.build_lib)
        for inside, source in CONTENT.items():
            target = parent / 'fastervit_backbone' / '.mim' / inside
            target.parent.mkdir(parents=True, exist_ok=True)
            if self.editable_mode:
                target.unlink(missing_ok=True)
                target.symlink_to(ROOT.absolute() / source)
            elif (ROOT / source).is_dir():
                ignored = shutil.ignore_patterns('__pycache__')
                shutil.copytree(ROOT / source, target, ignore=ignored, dirs_exist_ok=True)
            else:
                shutil.copy2(ROOT / source, target)
        for inside, (source, here, there) in INDEX.items():
            text = (ROOT / source).read_text().replace(here, there)
            (parent / 'fastervit_backbone' / '.mim' / inside).write_text(text)


setup(cmdclass={'build_py': BuildWithConfigs})
