"""torch.compile of a backbone inside of a model: what it needs, and that results are those of eager mode."""

import pytest
import torch

from fastervit_backbone import ArchSpec, FasterViT
from fastervit_backbone.models import compiled
from fastervit_backbone.models.compiled import check_compiler, compile_backbone, compile_in_place
from fastervit_backbone.utils.errors import UserError
from tests.helpers import randomize

TINY = ArchSpec(dim=8, stem_dim=8, depths=(1, 1, 2, 1), num_heads=(1, 1, 2, 4), propagation=True)

#: One block a stage: minutes of compilation less.
SMALLEST = ArchSpec(dim=8, stem_dim=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 4))


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = FasterViT(TINY)


@pytest.mark.slow
def test_weights_keep_their_names(monkeypatch):
    monkeypatch.setattr(compiled, '_arguments', lambda: dict(backend='eager'))
    model = randomize(Model()).eval()
    names, images = list(model.state_dict()), torch.randn(1, 3, 65, 97)
    expected = model.backbone(images)
    compile_backbone(model, 'cpu')
    assert model.backbone._compiled_call_impl is not None and list(model.state_dict()) == names
    for a, b in zip(model.backbone(images), expected, strict=True):
        torch.testing.assert_close(a, b)


def test_what_is_missing_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv('CXX', str(tmp_path / 'none'))
    with pytest.raises(UserError, match=r'finds no C\+\+ compiler: install g\+\+ or set CXX, or leave'):
        check_compiler('cpu')
    monkeypatch.delenv('CXX')
    monkeypatch.setenv('PATH', str(tmp_path))
    with pytest.raises(UserError, match='install g'):
        compile_in_place(FasterViT(TINY), 'cpu')
    monkeypatch.setattr(compiled.shutil, 'which', str)
    monkeypatch.setattr(compiled.sysconfig, 'get_path', lambda name: str(tmp_path))
    with pytest.raises(UserError, match=r'headers \(Python\.h\): install python3-dev'):
        check_compiler('cpu')
    with pytest.raises(UserError, match='Linear has no backbone'):
        compile_backbone(torch.nn.Linear(1, 1), 'cpu')


@pytest.mark.slow
def test_the_compiler_itself():
    """A training step: values and gradients of eager mode."""
    eager = randomize(FasterViT(SMALLEST))
    net = FasterViT(SMALLEST)
    net.load_state_dict(eager.state_dict())
    compile_in_place(net, 'cpu')
    images, results = torch.randn(2, 3, 64, 96), []
    for model in (eager, net):
        maps = model(images)
        loss = sum(m.square().mean() for m in maps)
        results.append((*maps, *torch.autograd.grad(loss, list(model.parameters()))))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
