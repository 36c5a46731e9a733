"""The commands of `make gpu`."""

import subprocess

import pytest

from fastervit_paper import gpu_steps as gpu
from tests.helpers import ROOT


@pytest.mark.parametrize('step', gpu.BENCHMARKS)
def test_the_command_of_a_step_is_one(step, tmp_path):
    command = gpu._command(step, tmp_path / 'page', True)
    done = subprocess.run([*command, '--help'], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith('usage: fastervit benchmark'), done.stderr
