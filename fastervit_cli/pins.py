"""The tested versions in requirements.txt, and what to install where OpenCV cannot be imported."""

import re
import sys

_PIN = re.compile(r'^([\w.-]+)==([\w.]+)(?:; python_version (<|>=) "3\.(\d+)")?', re.MULTILINE)


def pinned_versions(text: str, python: str | None = None) -> dict[str, str]:
    """Return package -> version of a requirements.txt.

    Args:
        text: its content.
        python: version of Python, such as '3.12'; None: this one.
    """
    minor = sys.version_info.minor if python is None else int(python.split('.')[1])
    versions = {}
    for name, version, comparison, bound in _PIN.findall(text):
        if not comparison or (minor < int(bound)) == (comparison == '<'):
            versions[name] = version
    return versions


#: What the loader of shared libraries says of a missing one.
_LIBRARY = re.compile(r'(lib[\w.+-]+\.so[\w.]*): cannot open shared object file')


def missing_library(error: object) -> str | None:
    """Return the name of the system's library for want of which an import failed; None for another reason."""
    found = _LIBRARY.search(str(error))
    return found[1] if found else None


def headless_opencv(pin: str = 'opencv-python-headless') -> str:
    """Return the command that replaces an OpenCV with windows by the one that needs no system library."""
    pip = f'{sys.executable} -m pip'
    return f'{pip} uninstall -y opencv-python opencv-python-headless && {pip} install --no-deps {pin}'
