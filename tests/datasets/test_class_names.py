import pytest

from fastervit_backbone.datasets.class_names import read_class_names
from fastervit_backbone.utils.errors import UserError


@pytest.mark.parametrize(
    'text',
    [
        'sky\nroad\n3 series\n',
        '\ufeffsky\r\nroad\r\n\r\n3 series\r\n',
        '0 sky\n1 road\n2 3 series\n',
        '\n0: sky\n1: road\n\n2: 3 series',
    ],
)
def test_names_are_read_alike(text, tmp_path):
    path = tmp_path / 'classes.txt'
    path.write_text(text, encoding='utf-8')
    assert read_class_names(path) == ['sky', 'road', '3 series']


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('1 sky\n2 road\n', 'its numbers are 1, 2, ..., and lines are the classes 0, 1'),
        ('1 sky\n0 road\n', 'its numbers are 1, 0'),
        ('\n \n', 'names no class'),
        ('sky\nroad\nsky\n', "names 'sky' twice"),
    ],
)
def test_what_is_no_list_of_names(text, message, tmp_path):
    path = tmp_path / 'classes.txt'
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_class_names(path)
