"""Check the environment: print what is installed, what is wrong, and a command that fixes each problem.

Exit code: 0 if training can run, 1 if not.
"""

# Standard library only, so that it also works in a broken environment.
import importlib
import platform
import re
import sys
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distributions, version
from types import ModuleType

from ..options import verb_parser
from ..package import utils
from ..pins import headless_opencv, missing_library, pinned_versions

#: Import name -> distributions: the fork used here, then those of the original project.
MM_PACKAGES = {
    'mmengine': ('onedl-mmengine', 'mmengine', 'mmengine-lite'),
    'mmcv': ('onedl-mmcv', 'mmcv', 'mmcv-lite', 'mmcv-full'),
    'mmdet': ('onedl-mmdetection', 'mmdet'),
    'mmseg': ('onedl-mmsegmentation', 'mmsegmentation'),
    'mmpretrain': ('onedl-mmpretrain', 'mmpretrain'),
}
#: Detectors train without these; segmentation and classification configs and .safetensors files need them.
OPTIONAL = ('mmseg ', 'mmpretrain ', 'safetensors ')
PIP = f'{sys.executable} -m pip install'
PINS = utils('places').requirements()
VERSIONS = pinned_versions(PINS.read_text())
BUILD = f'{PIP} --no-build-isolation'
#: Packages that ask for an OpenCV with windows (requirements.txt).
WITHOUT_DEPS = ('onedl-mmcv', 'onedl-mmdetection', 'onedl-mmsegmentation')


@dataclass
class Report:
    """What was found.

    Attributes:
        rows: (name, state).
        problems: (what is wrong, command that fixes it).
    """

    rows: list[tuple[str, str]] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)


def pinned(*names: str) -> str:
    """Return pip's requirements of distributions at their tested versions."""
    return ' '.join(f'{name}=={VERSIONS[name]}' for name in names if name in VERSIONS)


def try_import(name: str) -> tuple[ModuleType | None, str]:
    """Import a module; returns it and '', or None and the reason."""
    try:
        return importlib.import_module(name), ''
    except Exception as error:  # a broken package can raise anything
        return None, f'{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ""}'


def check_python(report: Report) -> None:
    """Check the version of Python."""
    found = platform.python_version()
    report.rows.append(('python', f'{found} at {sys.executable}'))
    if not (3, 10) <= sys.version_info[:2] <= (3, 14):
        fix = 'rm -rf .venv && make setup BOOTSTRAP=python3.11'
        report.problems.append((f'Python {found} is outside 3.10 to 3.14', fix))


def check_torch(report: Report) -> bool:
    """Check torch and its device; returns whether torch imports."""
    torch, reason = try_import('torch')
    if torch is None:
        report.rows.append(('torch', 'missing'))
        fix = f'{PIP} {pinned("torch", "torchvision")}'
        report.problems.append((f'torch does not import ({reason})', fix))
        return False
    available = torch.cuda.is_available()
    device = torch.cuda.get_device_name(0) if available else 'no GPU in use: runs on the CPU'
    cuda = torch.version.cuda or 'none'
    report.rows.append(('torch', f'{torch.__version__}, built for CUDA {cuda}, {device}'))
    torchvision, reason = try_import('torchvision')
    if torchvision is None:
        fix = f'{PIP} --upgrade torch=={torch.__version__.partition("+")[0]} torchvision'
        report.problems.append((f'torchvision does not import ({reason})', fix))
    return True


def check_opencv(report: Report, packages: dict[str, str]) -> None:
    """Check that OpenCV imports; mmcv, mmdet and mmseg need it."""
    loaded, reason = try_import('cv2')
    wheels = [name for name in ('opencv-python', 'opencv-python-headless') if name in packages]
    state = getattr(loaded, '__version__', f'does not import: {reason}')
    report.rows.append(('opencv', f'{state} ({", ".join(wheels) or "not by pip"})'))
    if loaded is None or not hasattr(loaded, '__version__'):  # a folder that an uninstalled wheel left
        library = missing_library(reason)
        problem = f'OpenCV needs {library}, which this system lacks' if library else f'OpenCV: {reason}'
        report.problems.append((problem, headless_opencv(pinned('opencv-python-headless'))))


#: Import name -> distribution, where they differ.
DISTRIBUTIONS = dict(skimage='scikit-image', yaml='pyyaml', PIL='pillow', cv2='opencv-python-headless')


def distribution_of(module: str) -> str:
    """Return what pip installs for a module, at its tested version."""
    if module in MM_PACKAGES:
        fork = MM_PACKAGES[module][0]
        return f'--no-deps {pinned(fork)}' if fork in WITHOUT_DEPS else pinned(fork)
    name = DISTRIBUTIONS.get(module, module)
    return pinned(name) or name


def remedy(module: str, reason: str, package: str) -> tuple[str, str] | None:
    """Return problem and fix of a package that does not import; None where OpenCV is the cause.

    Args:
        module: its name.
        reason: why it does not import.
        package: what to install if it is broken itself.
    """
    if 'libGL' in reason or ('cv2' in reason and not hasattr(try_import('cv2')[0], '__version__')):
        return None  # reported already
    if library := missing_library(reason):
        return f'{module} needs the system library {library}', f"install {library} with the system's packages"
    missing = re.search(r"No module named '(\w+)", reason)
    if missing and missing[1] != module:
        return f'{module} needs {missing[1]}, which is missing', f'{PIP} {distribution_of(missing[1])}'
    return f'{module} does not import ({reason})', f'{PIP} {package}'


def check_families(report: Report, packages: dict[str, str]) -> None:
    """Check that no mm package is installed twice: from its original project and from the fork used here."""
    originals, forks, modules = [], [], []
    for module, (fork, *names) in MM_PACKAGES.items():
        installed = [name for name in names if name in packages]
        if fork in packages and installed:
            originals += installed
            forks.append(fork)
            modules.append(module)
    if modules:
        problem = f'both families of {", ".join(modules)} are installed; they overwrite each other'
        uninstall = f'{sys.executable} -m pip uninstall -y {" ".join(originals + forks)}'
        report.problems.append((problem, f'{uninstall} && {PIP} --no-deps {pinned(*forks)}'))


def check_mm_packages(report: Report, packages: dict[str, str], has_torch: bool) -> None:
    """Check that the mm packages import; without torch, which they need, they are only listed."""
    for module, names in MM_PACKAGES.items():
        name = next((name for name in names if name in packages), None)
        loaded, reason = try_import(module) if has_torch else (None, 'needs torch')
        state = getattr(loaded, '__version__', None)
        if state is None:
            state = f'{packages[name]}, does not import: {reason}' if name else 'missing'
        report.rows.append((f'{module} ({name})' if name else module, state))
        if loaded is None and has_torch:
            needed = distribution_of(module)
            found = remedy(module, reason, needed) if name else (f'{module} is missing', f'{PIP} {needed}')
            if found is not None:
                report.problems.append(found)


def check_operators(report: Report) -> None:
    """Run an operator of mmcv on every device; without compiled ones it is torchvision's."""
    import torch

    package, reason = try_import('fastervit_backbone')  # before mmcv.ops: it brings torchvision's operators
    extension = try_import('mmcv._ext')[0] if package is not None else None
    if extension is None:
        report.rows.append(('operators', f'not checked: fastervit_backbone does not import ({reason})'))
        return
    compiled = getattr(extension, '__file__', None) is not None
    fix = f'{PIP} --force-reinstall --no-deps {pinned("torchvision", "onedl-mmcv")}'
    if compiled:
        fix = f'{BUILD} --force-reinstall --no-deps --no-cache-dir {pinned("onedl-mmcv")}'
    working = []
    for device in ('cpu', 'cuda') if torch.cuda.is_available() else ('cpu',):
        try:
            from mmcv.ops import nms

            boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 4.1]], device=device)
            if len(nms(boxes, torch.tensor([0.9, 0.8], device=device), 0.5)[1]) == 1:
                working.append(device.upper())
        except Exception as error:  # whatever it raises, the operator does not work
            reason = str(error).splitlines()[0]
            report.problems.append((f'operators fail on {device.upper()} ({reason})', fix))
            break
    kind = "mmcv's, compiled" if compiled else 'torchvision'
    report.rows.append(('operators', f'{kind}, working on {"+".join(working) or "nothing"}'))


def check_others(report: Report, has_torch: bool) -> None:
    """Check the other packages, and this one."""
    for name in ('numpy', 'pycocotools', 'safetensors'):
        try:
            report.rows.append((name, version(name)))
        except PackageNotFoundError:
            report.rows.append((name, 'missing'))
            report.problems.append((f'{name} is missing', f'{PIP} {name}'))
    package, reason = try_import('fastervit_backbone')
    state = getattr(package, '__version__', f'does not import: {reason}')
    report.rows.append(('fastervit_backbone', state))
    if package is None and has_torch:
        is_checkout = (PINS.parent / 'pyproject.toml').is_file()
        source = f'-e {PINS.parent}' if is_checkout else '--force-reinstall fastervit-backbone'
        found = remedy('fastervit_backbone', reason, f'--no-deps {source}')
        if found is not None:
            report.problems.append(found)


def examine() -> Report:
    """Run all checks."""
    names = ((d.metadata['Name'], d.version) for d in distributions())
    packages = {name.lower().replace('_', '-'): number for name, number in names if name}
    report = Report()
    check_python(report)
    has_torch = check_torch(report)
    check_opencv(report, packages)
    check_families(report, packages)
    check_mm_packages(report, packages, has_torch)
    if has_torch and try_import('mmcv')[0] is not None:
        check_operators(report)
    check_others(report, has_torch)
    return report


def main() -> None:
    """Parse the command line, check, and exit."""
    parser = verb_parser(__doc__)
    parser.add_argument('--quiet', action='store_true', help='print only problems')
    args = parser.parse_args()
    report = examine()
    if not args.quiet:
        width = max(len(name) for name, _ in report.rows)
        print('\n'.join(f'{name:{width}}  {state}' for name, state in report.rows))
    for problem, command in report.problems:
        print(f'problem: {problem}\n    fix: {command}')
    serious = [problem for problem, _ in report.problems if not problem.startswith(OPTIONAL)]
    if not args.quiet or serious:
        print(f'training cannot run: {len(serious)} problem(s)' if serious else 'training can run')
    sys.exit(1 if serious else 0)
