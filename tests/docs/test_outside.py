"""The models of docs/outside.md are built as the page says, and learn."""

import re

import pytest
import torch

pytest.importorskip('timm')

from tests.helpers import ROOT

PAGE = (ROOT / 'docs' / 'outside.md').read_text()


def run(section):
    """Run the block of a section, and return its names."""
    _, text = PAGE.split(f'## {section}\n')
    (block, *_) = re.findall(r'```python\n(.*?)```', text, re.S)
    for package in re.findall(r'^(?:import|from) (\w+)', block, re.M):
        pytest.importorskip(package)
    names = {}
    exec(compile(block, f'docs/outside.md, {section}', 'exec'), names)
    return names


def assert_learns(model, loss, steps=8):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(steps):
        value = loss()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(float(value.detach()))
    assert sum(losses[-2:]) < 0.8 * sum(losses[:2]), losses


@pytest.fixture
def batch():
    """Two images whose right half is brighter, and its class."""
    images, labels = torch.rand(2, 3, 64, 96), torch.zeros(2, 64, 96, dtype=torch.long)
    images[..., 48:] += 1
    labels[..., 48:] = 1
    return images, labels


def test_transformers(batch):
    model = run('transformers')['model']
    assert_learns(model.train(), lambda: model(batch[0], labels=batch[1]).loss)


def test_torchvision(batch):
    model = run("torchvision's Mask R-CNN")['model']
    boxes, mask = torch.tensor([[48.0, 0, 96, 64]]), (batch[1][:1] == 1).byte()
    truth = [dict(boxes=boxes, labels=torch.tensor([1]), masks=mask) for _ in range(2)]
    model.transform.min_size, model.transform.max_size = (64,), 96
    assert_learns(model.train(), lambda: sum(model(list(batch[0]), truth).values()))


def test_segmentation_models_pytorch(batch):
    smp = pytest.importorskip('segmentation_models_pytorch')
    model = run('segmentation-models-pytorch')['model']
    assert isinstance(model, smp.Unet) and model(batch[0][:1]).shape == (1, 3, 64, 96)
    cross_entropy = torch.nn.functional.cross_entropy
    assert_learns(model.train(), lambda: cross_entropy(model(batch[0]), batch[1]), steps=4)


def test_detectron2(batch):
    model = run('detectron2')['Maps']()
    shapes, maps = model.output_shape(), model(batch[0])
    assert shapes.keys() == maps.keys() == {'res2', 'res3', 'res4', 'res5'}
    for name, m in maps.items():
        assert m.shape[1:] == (shapes[name].channels, 64 // shapes[name].stride, 96 // shapes[name].stride)


def test_lightning(batch, tmp_path):
    lightning = pytest.importorskip('lightning')
    model = run('Lightning')['model']
    before = float(model.training_step(batch, 0))
    options = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator='cpu')
    data = torch.utils.data.DataLoader([(batch[0][i], batch[1][i]) for i in range(2)] * 8, batch_size=2)
    lightning.Trainer(max_epochs=1, default_root_dir=tmp_path, enable_model_summary=False, **options).fit(
        model, data
    )
    assert float(model.training_step(batch, 0)) < 0.8 * before
