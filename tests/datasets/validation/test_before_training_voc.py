import pytest

from fastervit_backbone.datasets.validation.before_training import check_voc
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
        match=r"no object of the classes \['car', 'cat'\] in 2 .*, which have \['Car'\] \(did you mean 'Car'",
    ):
        check(root, ('car', 'cat'))


@pytest.mark.parametrize(
    ('path', 'content', 'told'),
    [
        ('Annotations/2.xml', '<annotation>', r'annotation files that are not XML \(2\.xml: '),
        (
            'Annotations/2.xml',
            None,
            r'images without an annotation file \(1 of 2, the first is 2\.xml in .*\): get the VOC',
        ),
        ('Annotations/2.xml', annotation(''), r'objects without name or bndbox \(2\.xml: no bndbox\)'),
        (
            'Annotations/2.xml',
            '<annotation><object/></annotation>',
            r'objects without name or bndbox \(2\.xml: no name\)',
        ),
        (
            'Annotations/2.xml',
            annotation(BOX.replace('30', 'wide')),
            r"must be numbers of pixels and are not \(2\.xml: bndbox/xmax 'wide'\)",
        ),
        (
            'Annotations/2.xml',
            annotation(BOX.replace('<ymax>40</ymax>', '')),
            r'2\.xml: bndbox/ymax None',
        ),
        (
            'Annotations/2.xml',
            annotation(more='<size><width>3</width></size>'),
            r'2\.xml: size/height None',
        ),
        (
            'Annotations/2.xml',
            annotation(BOX + '<difficult>no</difficult>'),
            r"2\.xml: object/difficult 'no'",
        ),
        (
            'ImageSets/Main/trainval.txt',
            '1 -1\n2  1\n',
            r"lists with more than one image name per line \(the line '1 -1'\)",
        ),
        ('ImageSets/Main/trainval.txt', b'\xff\xd8\xff', 'is not a text file'),
        (
            'JPEGImages/1.jpg',
            None,
            r'images that do not exist \(1 of 2, the first is 1\.jpg in .*\): get the VOC',
        ),
        ('ImageSets/Main/trainval.txt', '', 'trainval.txt: no images'),
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
