"""The commands of docs/examples run as they are written there, on the real data, with fewer epochs."""

import os
import re
import subprocess
import sys

import pytest

from tests.helpers import ROOT
from tests.processes import environment

PAGES = {'blood-cells': 'voc_bccd364', 'street-scenes': 'camvid_mini'}


@pytest.mark.slow
@pytest.mark.parametrize('page', PAGES)
def test_the_commands_of_an_example(page, real_data, tmp_path):
    text = (ROOT / 'docs' / 'examples' / f'{page}.md').read_text()
    commands = '\n'.join(re.findall(r'```bash\n(.*?)```', text, re.DOTALL))
    assert commands.count('fastervit ') >= 6
    if os.environ.get('FASTERVIT_EXAMPLES') != 'whole':
        commands = re.sub(r'--epochs \d+', '--epochs 2', commands)
    (tmp_path / 'tools').symlink_to(ROOT / 'tools')
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    path = f'{os.path.dirname(sys.executable)}:{os.environ["PATH"]}'
    done = subprocess.run(
        ['bash', '-euo', 'pipefail', '-c', commands],
        cwd=tmp_path,
        env=environment(DATA=str(real_data / PAGES[page]), PATH=path, PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for output in re.findall(r'--out (\S+)', commands):
        assert (tmp_path / output).exists(), output
