"""What builds elsewhere runs the same commands as .ci/run, on the versions that docs/install.md names."""

import re
import sys

import pytest

from tests.helpers import ROOT

#: torch and torchvision of the lowest versions that are tested.
LOWEST = ('2.6.0', '0.21.0')
CI = (ROOT / '.ci' / 'run').read_text().splitlines()


def test_the_dockerfile_runs_steps_of_ci():
    text = (ROOT / 'Dockerfile').read_text().replace('\\\n', ' ')
    steps = re.findall(r'^RUN (.*)', text, re.MULTILINE)
    ours = [step for step in steps if not step.startswith('apt-get')]
    assert ours and set(ours) <= set(CI)
    assert 'nvcc' not in ''.join(steps) and not re.search('FROM .*(cuda|devel)', text)


def test_the_workflow_runs_ci():
    yaml = pytest.importorskip('yaml')
    jobs = yaml.safe_load((ROOT / '.github' / 'workflows' / 'ci.yml').read_text())['jobs']
    runs = {name: [step['run'] for step in job['steps'] if 'run' in step] for name, job in jobs.items()}
    assert runs['test'] == ['.ci/run']
    assert jobs['test']['strategy']['matrix']['python'] == ['3.10', '3.11', '3.12', '3.13', '3.14']
    assert runs['torch'][0] == 'make setup' and runs['torch'][-1] == 'make test'
    torches = [row['torch'] for row in jobs['torch']['strategy']['matrix']['include']]
    assert torches == [f'torch=={LOWEST[0]} torchvision=={LOWEST[1]}', '--upgrade torch torchvision']
    assert ', '.join(LOWEST) in (ROOT / 'docs' / 'install.md').read_text()


@pytest.mark.skipif(sys.version_info < (3, 11), reason='tomllib')
def test_the_extras_are_the_tested_versions():
    import tomllib

    project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
    assert f'torch>={LOWEST[0].removesuffix(".0")}' in project['dependencies']
    pins = (ROOT / 'requirements.txt').read_text().splitlines()
    extras = [line.replace("'", '"') for extra in project['optional-dependencies'].values() for line in extra]
    assert [line for line in extras if '==' in line and line not in pins] == []
