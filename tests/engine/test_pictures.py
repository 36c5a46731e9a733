"""Pictures of test results: none overwrites another, whatever the images are called."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip('mmengine')

from mmengine.structures import BaseDataElement, InstanceData

from fastervit_backbone.engine.hooks.pictures import ComparisonPictures


class Listing(list):
    """A data set of image files."""

    metainfo = dict(classes=('cat', 'dog'))  # noqa: RUF012

    def get_data_info(self, index):
        return dict(img_path=str(self[index]))


def sample(path, found):
    boxes = torch.tensor([[2.0, 2.0, 20.0, 20.0]])
    element = BaseDataElement(metainfo=dict(img_path=str(path)))
    element.gt_instances = InstanceData(bboxes=boxes, labels=torch.tensor([0]))
    element.pred_instances = InstanceData(
        bboxes=boxes, labels=torch.tensor([1]), scores=torch.tensor([0.9 if found else 0.1])
    )
    return element


@pytest.mark.parametrize(
    ('images', 'pictures'),
    [
        (['a/1.jpg', 'a/2.jpg'], ['1.png', '2.png']),
        (['a/1.jpg', 'b/1.jpg', 'b/c/1.jpg'], ['a_1.png', 'b_1.png', 'b_c_1.png']),
        (['cam0/a.jpg', 'cam1/a.jpg'], ['cam0_a.png', 'cam1_a.png']),
        (['a/1.jpg', 'a/1.png'], ['1.png', '1_png.png']),
        (['a_b/c.jpg', 'a/b_c.jpg'], ['a_b_c.png', 'a_b_c_jpg.png']),
    ],
)
def test_equal_names_give_different_pictures(tmp_path, images, pictures):
    for name in images:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / name)
    paths = [tmp_path / name for name in images]
    dataset = Listing(paths)
    runner = SimpleNamespace(test_dataloader=SimpleNamespace(dataset=dataset))
    hook = ComparisonPictures(tmp_path / 'out')
    hook.before_test(runner)
    hook.after_test_iter(runner, 0, outputs=[sample(path, True) for path in paths])
    assert sorted(p.name for p in (tmp_path / 'out').iterdir()) == pictures
    both = np.asarray(Image.open(tmp_path / 'out' / pictures[0]))
    half = both.shape[1] // 2
    assert both[:, :half].any() and (both[:, :half] != both[:, half:]).any()
