import pytest

from fastervit_backbone.utils.suggest import did_you_mean


@pytest.mark.parametrize(
    ('name', 'suggestion'),
    [
        ('los', " (did you mean 'loss'?)"),
        ('LR', " (did you mean 'lr'?)"),
        ('miou', " (did you mean 'mIoU'?)"),
        ('weather', ''),
    ],
)
def test_closest_candidate(name, suggestion):
    assert did_you_mean(name, ['loss', 'lr', 'mIoU']) == suggestion


def test_cutoff():
    assert did_you_mean('losses', ['loss']) and not did_you_mean('losses', ['loss'], cutoff=0.9)
    assert did_you_mean('loss', []) == ''
