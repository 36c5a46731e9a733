from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('mmengine')

from fastervit_backbone.engine.hooks.pictures import SegmentationPictures


class Visualizer:
    """Write the picture it is given, like mmseg's visualizer."""

    def add_datasample(self, name, pixels, sample, out_file, with_labels):
        Image.fromarray(pixels).save(out_file)


@pytest.mark.parametrize(
    ('images', 'pictures'),
    [
        (['a/1.jpg', 'a/2.jpg'], ['1.png', '2.png']),
        (['a/1.jpg', 'b/1.jpg', 'b/c/1.jpg'], ['a_1.png', 'b_1.png', 'b_c_1.png']),
    ],
)
def test_equal_names_in_different_folders_give_different_pictures(tmp_path, images, pictures):
    for name in images:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / name)
    paths = [str(tmp_path / name) for name in images]
    dataset = type('Listing', (list,), dict(get_data_info=lambda self, i: self[i]))(
        dict(img_path=p) for p in paths
    )
    runner = SimpleNamespace(test_dataloader=SimpleNamespace(dataset=dataset), visualizer=Visualizer())
    hook = SegmentationPictures(tmp_path / 'out')
    hook.before_test(runner)
    hook.after_test_iter(runner, 0, outputs=[SimpleNamespace(img_path=p) for p in paths])
    assert sorted(p.name for p in (tmp_path / 'out').iterdir()) == pictures
