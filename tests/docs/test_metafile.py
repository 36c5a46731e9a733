"""The index of the configs that mmengine and mim read."""

from pathlib import Path

import pytest
import yaml

pytest.importorskip('mmengine')

from metafile import canonical_name, files

from tests.helpers import ROOT


@pytest.mark.parametrize('path', files(), ids=lambda path: path.name)
def test_committed_files_are_what_the_generator_writes(path):
    assert path.read_text() == files()[path], 'run python docs/generate/metafile.py'


def test_every_entry_names_a_config_once():
    models = yaml.safe_load((ROOT / 'configs' / 'metafile.yml').read_text())['Models']
    assert all((ROOT / model['Config']).is_file() for model in models)
    assert len({model['Name'] for model in models}) == len(models) > 50
    assert {alias for model in models for alias in model['Alias']} == {Path(m['Config']).stem for m in models}


@pytest.mark.parametrize(
    ('stem', 'name'),
    [
        ('cascade_fastervit4_21k_384_3x', 'cascade-mask-rcnn_fastervit-4-21k-384_fpn_ms-crop-3x_coco'),
        ('upernet_swin-t_160k', 'upernet_swin-t_160k_ade20k-512x512'),
        ('imagenet_fastervit4_21k_ft_60e', 'fastervit-4-21k_ft_60e_in1k'),
        ('faster-rcnn_fastervit0_voc0712', 'faster-rcnn_fastervit-0_fpn_voc0712'),
    ],
)
def test_names_are_those_of_the_toolkits(stem, name):
    assert canonical_name(stem) == name
