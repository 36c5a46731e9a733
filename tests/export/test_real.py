"""A detector's file on real photographs, with all that is unusual about them."""

import pytest

from fastervit_backbone.export.run import export
from tests.export.test_export import make_it_detect
from tests.helpers import ROOT
from tests.mm_helpers import build, load, with_nano

pytestmark = [pytest.mark.realdata, pytest.mark.slow]


def test_a_detector_on_coco(real_data, tmp_path):
    import torch

    data = real_data / 'coco_mini128'
    config = with_nano(load(ROOT / 'configs/mask-rcnn_fastervit0_1x.py'))
    config.model.roi_head.mask_head.num_convs = 1
    config.dump(tmp_path / 'mask.py')
    model = build(config)
    make_it_detect(model)
    torch.save(dict(state_dict=model.state_dict(), meta={}), tmp_path / 'mask.pth')
    arguments = dict(verify=data / 'val2017', annotations=data / 'annotations/instances_val2017.json')
    _, parity = export(tmp_path / 'mask.py', tmp_path / 'mask.pth', tmp_path, size=(192, 224), **arguments)
    assert parity.images == '43 images of COCO' and parity.objects > 1000
    assert parity.unmatched <= 0.01 * parity.objects and parity.least_iou > 0.98
    for old, new in parity.metrics.values():
        assert old == pytest.approx(new, abs=0.002)
