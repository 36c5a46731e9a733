import pytest

from fastervit_backbone.datasets.voc import check_voc
from fastervit_backbone.utils.errors import UserError


@pytest.fixture
def root(tmp_path):
    for folder in ('JPEGImages', 'Annotations', 'ImageSets/Main'):
        (tmp_path / 'VOC2007' / folder).mkdir(parents=True)
    for name in ('1', '2'):
        (tmp_path / 'VOC2007/JPEGImages' / f'{name}.jpg').write_bytes(b'')
        (tmp_path / 'VOC2007/Annotations' / f'{name}.xml').write_text(annotation())
    (tmp_path / 'VOC2007/ImageSets/Main/trainval.txt').write_text('1\n2\n')
    return tmp_path


BOX = '<bndbox><xmin>1</xmin><ymin>2.5</ymin><xmax>30</xmax><ymax>40</ymax></bndbox>'


def annotation(box=BOX, more=''):
    return f'<annotation>{more}<object><name>Car</name>{box}</object></annotation>'


def check(root, classes=None):
    return check_voc(root, 'VOC2007/ImageSets/Main/trainval.txt', 'VOC2007/', classes)


def test_good(root):
    assert check(root) == check(root, ('Car', 'cat')) == 2


def test_classes_that_are_not_there(root):
    with pytest.raises(
        UserError,
        match=r"no object of the classes \['car', 'cat'\] in 2 annotations, which have \['Car'\] \(did you mean 'Car'",
    ):
        check(root, ('car', 'cat'))


@pytest.mark.parametrize(
    ('path', 'content', 'told'),
    [
        ('Annotations/2.xml', '<annotation>', r'2\.xml cannot be read'),
        ('Annotations/2.xml', None, r'lists 2\.xml, which is not in .*Annotations \(1 of 2\)'),
        ('Annotations/2.xml', annotation(''), r'2\.xml has an object without bndbox'),
        ('Annotations/2.xml', '<annotation><object/></annotation>', r'2\.xml has an object without name'),
        (
            'Annotations/2.xml',
            annotation(BOX.replace('30', 'wide')),
            r"2\.xml has 'wide' as bndbox/xmax: it needs a number",
        ),
        (
            'Annotations/2.xml',
            annotation(BOX.replace('<ymax>40</ymax>', '')),
            r'2\.xml has None as bndbox/ymax',
        ),
        (
            'Annotations/2.xml',
            annotation(more='<size><width>3</width></size>'),
            r'2\.xml has None as size/height',
        ),
        (
            'Annotations/2.xml',
            annotation(BOX + '<difficult>no</difficult>'),
            r"2\.xml has 'no' as object/difficult",
        ),
        (
            'ImageSets/Main/trainval.txt',
            '1 -1\n2  1\n',
            r"has the line '1 -1': it needs one image name a line",
        ),
        ('ImageSets/Main/trainval.txt', b'\xff\xd8\xff', 'is not a text'),
        ('JPEGImages/1.jpg', None, r'lists 1\.jpg, which is not in .*JPEGImages'),
        ('ImageSets/Main/trainval.txt', '', 'lists 0 images'),
        ('ImageSets/Main/trainval.txt', None, 'no image list at .*: get the VOC 2007 and 2012 archives'),
    ],
)
def test_bad(root, path, content, told):
    target = root / 'VOC2007' / path
    target.unlink()
    if content is not None:
        target.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=told):
        check(root)
