"""What builds elsewhere runs the same commands as .ci/run."""

import re

import pytest

from tests.helpers import ROOT

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
    assert jobs['test']['strategy']['matrix']['python'] == ['3.10', '3.11', '3.12', '3.13']
