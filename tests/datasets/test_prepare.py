"""Archives, folders, a server that breaks off: the tool on small data sets laid out like the public ones."""

import hashlib
import http.server
import io
import json
import tarfile
import threading
import zipfile

import numpy as np
import pytest
from PIL import Image

from fastervit_backbone.datasets import archives
from fastervit_backbone.datasets import prepare as prepare_module
from fastervit_backbone.datasets.archives import Archive, fetch_archive, unpack
from fastervit_backbone.datasets.imagenet import synsets
from fastervit_backbone.datasets.prepare import DATA_SETS, PublicData, check, prepare, prepare_imagenet
from fastervit_backbone.utils.errors import UserError


def picture(size=(40, 30), mode='RGB', value=7):
    file = io.BytesIO()
    Image.new(mode, size, value if mode == 'L' else (value,) * 3).save(file, 'PNG' if mode == 'L' else 'JPEG')
    return file.getvalue()


def small_coco():
    files = {f'{split}2017/{i:012d}.jpg': picture() for split in ('train', 'val') for i in range(3)}
    for split in ('train', 'val'):
        images = [dict(id=i, file_name=f'{i:012d}.jpg', width=40, height=30) for i in range(3)]
        annotations = [dict(id=1, image_id=0, category_id=1, bbox=[1, 1, 5, 5], area=25, iscrowd=0)]
        content = dict(images=images, annotations=annotations, categories=[dict(id=1, name='person')])
        files[f'annotations/instances_{split}2017.json'] = json.dumps(content).encode()
    return files


def small(archives=(), name='coco'):
    counts = {
        'coco': (
            ('train2017', '.jpg', 3),
            ('val2017', '.jpg', 3),
            ('annotations', 'instances_val2017.json', 1),
        )
    }
    return PublicData('NOWHERE_ROOT', 'data/coco', tuple(archives), counts[name])


def zipped(path, files):
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def whole(tmp_path):
    """A complete small COCO as one zip."""
    return zipped(tmp_path / 'all.zip', small_coco())


@pytest.fixture
def data(monkeypatch):
    """Takes the place of COCO, so that its annotations are read too."""
    data = small([Archive('http://nowhere.invalid/all.zip')])
    monkeypatch.setitem(DATA_SETS, 'coco', data)
    return data


def test_an_archive_is_unpacked_and_checked(whole, data, tmp_path, capsys):
    root = prepare(data, [whole], root=tmp_path / 'coco')
    assert {str(p.relative_to(root)): p.read_bytes() for p in root.rglob('*') if p.is_file()} == small_coco()
    assert '8 files written' in capsys.readouterr().out
    prepare(data, [whole], root=root)
    assert 'already complete in' in capsys.readouterr().out


def test_a_folder_with_archives_and_a_folder_with_the_data(whole, data, tmp_path):
    first = prepare(data, [whole.parent], root=tmp_path / 'a' / 'coco')
    for source in (first, first.parent):  # the data set itself, or the folder above it
        root = prepare(data, [source], root=tmp_path / f'linked_{source.name}')
        assert (root / 'train2017').is_symlink() and len(list((root / 'train2017').iterdir())) == 3


def test_folders_of_other_things_are_not_linked(whole, data, tmp_path):
    source = tmp_path / 'Downloads'
    for folder in ('train2017', 'annotations'):
        (source / folder).mkdir(parents=True)
        (source / folder / 'mine.txt').write_text('mine')
    whole.rename(source / 'all.zip')
    root = prepare(data, [source], root=tmp_path / 'coco')
    assert not any(p.is_symlink() for p in root.iterdir()) and [
        p.name for p in (source / 'train2017').iterdir()
    ] == ['mine.txt']


def test_an_incomplete_folder_is_not_linked_and_the_archive_fills_it(whole, data, tmp_path, capsys):
    source = tmp_path / 'Downloads'
    (source / 'train2017').mkdir(parents=True)
    (source / 'train2017' / '000000000000.jpg').write_bytes(picture())
    whole.rename(source / 'all.zip')
    root = prepare(data, [source], root=tmp_path / 'coco')
    assert 'Downloads/train2017 is not linked: train2017 has 1 of 3 *.jpg' in capsys.readouterr().out
    assert not (root / 'train2017').is_symlink() and len(list((root / 'train2017').iterdir())) == 3


def test_nothing_is_written_through_a_link(whole, data, tmp_path):
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'coco').mkdir()
    (tmp_path / 'coco' / 'train2017').symlink_to(tmp_path / 'mine')
    with pytest.raises(
        UserError, match=r'train2017 is a link to .*mine, and nothing is written through links'
    ):
        prepare(data, [whole], root=tmp_path / 'coco')
    assert not list((tmp_path / 'mine').iterdir())


def test_more_files_than_published_are_said_and_stay(whole, data, tmp_path, capsys):
    root = prepare(data, [whole], root=tmp_path / 'coco')
    (root / 'val2017' / 'mine.jpg').write_bytes(picture())
    prepare(data, root=root)
    assert 'val2017 has 4 *.jpg, 3 are published: the others stay' in capsys.readouterr().out


def test_a_root_that_cannot_be_written(whole, data, tmp_path):
    (tmp_path / 'file').write_text('x')
    with pytest.raises(UserError, match=r'cannot write .*file/coco.*: set another --root'):
        prepare(data, [whole], root=tmp_path / 'file' / 'coco')


def test_an_unpacking_that_was_broken_off_goes_on(whole, data, tmp_path):
    root = tmp_path / 'coco'
    (root / 'val2017').mkdir(parents=True)
    (root / 'val2017' / '000000000001.jpg.part').write_bytes(b'half')
    (root / 'val2017' / '000000000002.jpg').write_bytes(small_coco()['val2017/000000000002.jpg'])
    prepare(data, [whole], root=root)
    assert sorted(p.name for p in (root / 'val2017').iterdir()) == [f'{i:012d}.jpg' for i in range(3)]


def test_what_is_there_is_never_overwritten(whole, data, tmp_path):
    root = tmp_path / 'coco'
    mine = root / 'val2017' / '000000000001.jpg'
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b'mine')
    with pytest.raises(
        UserError, match=r'000000000001\.jpg exists with another size than in all\.zip: move it away'
    ):
        prepare(data, [whole], root=root)
    assert mine.read_bytes() == b'mine'


@pytest.mark.parametrize('name', ['../outside.txt', '/outside.txt', 'a/../../outside.txt'])
def test_members_that_point_outside(name, data, tmp_path):
    path = zipped(tmp_path / 'all.zip', {name: b'x'})
    with pytest.raises(UserError, match='outside the target folder'):
        unpack(path, tmp_path / 'root')
    assert not (tmp_path / 'outside.txt').exists()


def test_tar_with_a_leading_folder(tmp_path):
    path = tmp_path / 'voc.tar'
    with tarfile.open(path, 'w') as archive:
        info = tarfile.TarInfo('VOCdevkit/VOC2007/Annotations/1.xml')
        info.size = 3
        archive.addfile(info, io.BytesIO(b'abc'))
        link = tarfile.TarInfo('VOCdevkit/VOC2007/link')
        link.type, link.linkname = tarfile.SYMTYPE, '/etc/passwd'
        archive.addfile(link)
    assert unpack(path, tmp_path / 'root', strip=1) == 1
    assert [str(p.relative_to(tmp_path / 'root')) for p in (tmp_path / 'root').rglob('*.*')] == [
        'VOC2007/Annotations/1.xml'
    ]


def test_damaged_archives(whole, data, tmp_path):
    content = whole.read_bytes()
    for broken, told in (
        (content[:-40], 'neither a zip nor a tar'),
        (content[:200] + b'\0' * 300 + content[500:], 'cannot be unpacked'),
    ):
        whole.write_bytes(broken)
        with pytest.raises(UserError, match=told):
            prepare(data, [whole], root=tmp_path / 'coco')


def test_what_is_missing_is_said_in_one_line(data, tmp_path):
    with pytest.raises(
        UserError, match=r'train2017 has 0 of 3 \*\.jpg; val2017 has 0 of 3.*Give all\.zip or .* --download'
    ):
        prepare(data, root=tmp_path / 'coco')
    with pytest.raises(UserError, match='no archive or folder at'):
        prepare(data, [tmp_path / 'absent'], root=tmp_path / 'coco')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(UserError, match='holds nothing of this data set: expected one of train2017'):
        prepare(data, [tmp_path / 'empty'], root=tmp_path / 'coco')
    other = zipped(tmp_path / 'other.zip', {'a': b'b'})
    with pytest.raises(UserError, match=r'other\.zip is not an archive of this data set: those are all\.zip'):
        prepare(data, [other], root=tmp_path / 'coco')


def test_a_broken_image_is_found(whole, data, tmp_path):
    root = prepare(data, [whole], root=tmp_path / 'coco')
    (root / 'train2017' / '000000000001.jpg').write_bytes(b'no image')
    with pytest.raises(UserError, match=r'000000000001\.jpg cannot be read'):
        check(data, root)


def test_no_room(whole, data, tmp_path, monkeypatch):
    monkeypatch.setattr(archives.shutil, 'disk_usage', lambda _: type('Usage', (), dict(free=10)))
    with pytest.raises(UserError, match='GB free: free some or set another --root'):
        prepare(data, [whole], root=tmp_path / 'coco')


class Server(http.server.BaseHTTPRequestHandler):
    """Serves one content, with ranges, and can break off once."""

    content, limit, ranges = b'', None, True

    def do_GET(self):
        start = 0
        if self.ranges and 'Range' in self.headers:
            start = int(self.headers['Range'].removeprefix('bytes=').removesuffix('-'))
        if start >= len(self.content):
            self.send_error(416)
            return
        body = self.content[start:]
        self.send_response(206 if start else 200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.limit])
        type(self).limit = None

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    handler = type('Handler', (Server,), {})
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{serving.server_port}', handler
        serving.shutdown()


@pytest.mark.parametrize('ranges', [True, False])
def test_a_download_goes_on_where_it_broke_off(server, whole, tmp_path, ranges):
    url, handler = server
    handler.content, handler.limit, handler.ranges = whole.read_bytes(), 700, ranges
    archive = Archive(f'{url}/all.zip', f'sha256:{hashlib.sha256(handler.content).hexdigest()}')
    with pytest.raises(UserError, match='ended at'):
        fetch_archive(archive, tmp_path / 'archives')
    assert (tmp_path / 'archives' / 'all.zip.part').stat().st_size == 700
    assert fetch_archive(archive, tmp_path / 'archives').read_bytes() == handler.content


def test_a_whole_part_is_taken(server, whole, tmp_path):
    url, handler = server
    handler.content = whole.read_bytes()
    (tmp_path / 'all.zip.part').write_bytes(handler.content)
    assert fetch_archive(Archive(f'{url}/all.zip'), tmp_path).read_bytes() == handler.content


def test_a_damaged_archive_from_before_is_not_taken(server, tmp_path):
    url, _ = server
    (tmp_path / 'all.zip').write_bytes(b'broken')
    with pytest.raises(UserError, match=r'all\.zip has md5 .*move it away'):
        fetch_archive(Archive(f'{url}/all.zip', 'md5:123'), tmp_path)


def test_another_content_than_published(server, tmp_path):
    url, handler = server
    handler.content = b'something else'
    with pytest.raises(UserError, match=r'all\.zip\.part has md5 .*, expected 123'):
        fetch_archive(Archive(f'{url}/all.zip', 'md5:123'), tmp_path)
    assert not (tmp_path / 'all.zip').exists()


def test_no_network(tmp_path):
    with pytest.raises(UserError, match=r'download of .* failed .*download it by hand and give its path'):
        fetch_archive(Archive('http://127.0.0.1:9/all.zip'), tmp_path / 'archives')
    assert not (tmp_path / 'archives').exists()


def test_download_lays_everything_out(server, whole, monkeypatch, tmp_path):
    url, handler = server
    handler.content = whole.read_bytes()
    data = small([Archive(f'{url}/all.zip', f'sha256:{hashlib.sha256(handler.content).hexdigest()}')])
    monkeypatch.setitem(DATA_SETS, 'coco', data)
    root = prepare(data, root=tmp_path / 'coco', download=True)
    assert (root / 'archives' / 'all.zip').is_file() and len(list((root / 'train2017').iterdir())) == 3


def test_only_what_is_missing_is_downloaded(server, whole, monkeypatch, tmp_path):
    url, handler = server
    handler.content = whole.read_bytes()
    data = small([Archive(f'{url}/train.zip', fills='train2017'), Archive(f'{url}/val.zip', fills='val2017')])
    monkeypatch.setitem(DATA_SETS, 'coco', data)
    root = tmp_path / 'coco'
    unpack(whole, root)
    (root / 'val2017' / '000000000000.jpg').unlink()
    prepare(data, root=root, download=True)
    assert [p.name for p in (root / 'archives').iterdir()] == ['val.zip']


OBJECT = (
    b'<a><object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>'
    b'</object></a>'
)


def test_ade20k_and_voc_are_read_too(monkeypatch, tmp_path):
    """Their annotations: a label out of range, a list with a name that has no image."""
    ade = PublicData(
        'X',
        '',
        (),
        tuple(
            (f'{k}/{s}', e, 1)
            for k, e in (('images', '.jpg'), ('annotations', '.png'))
            for s in ('training', 'validation')
        ),
    )
    monkeypatch.setitem(DATA_SETS, 'ade20k', ade)
    for split in ('training', 'validation'):
        for kind, content in (('images', picture()), ('annotations', picture(mode='L', value=150))):
            folder = tmp_path / 'ade' / kind / split
            folder.mkdir(parents=True)
            (folder / f'1{".jpg" if kind == "images" else ".png"}').write_bytes(content)
    check(ade, tmp_path / 'ade')
    (tmp_path / 'ade' / 'annotations' / 'validation' / '1.png').write_bytes(picture(mode='L', value=151))
    with pytest.raises(UserError, match=r'1\.png: 151\)'):
        check(ade, tmp_path / 'ade')

    voc = PublicData(
        'X',
        '',
        (),
        tuple(
            (f'VOC{y}/{f}', e, 1)
            for y in (2007, 2012)
            for f, e in (('JPEGImages', '.jpg'), ('Annotations', '.xml'))
        ),
    )
    monkeypatch.setitem(DATA_SETS, 'voc', voc)
    for year in (2007, 2012):
        for name, content in (
            ('JPEGImages/1.jpg', picture()),
            ('Annotations/1.xml', OBJECT),
            ('ImageSets/Main/trainval.txt', b'1\n'),
        ):
            path = tmp_path / 'voc' / f'VOC{year}' / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    (tmp_path / 'voc/VOC2007/ImageSets/Main/test.txt').write_text('2\n')
    with pytest.raises(
        UserError, match=r'test\.txt: images that do not exist \(1 of 1, the first is 2\.jpg in '
    ):
        check(voc, tmp_path / 'voc')


def test_the_published_counts():
    """COCO 2017: 118287 and 5000 images; ADE20K: 20210 and 2000; VOC: 9963 (2007) and 17125 (2012)."""
    counts = {folder: count for data in DATA_SETS.values() for folder, _, count in data.counts}
    assert (counts['train2017'], counts['val2017']) == (118287, 5000)
    assert (counts['images/training'], counts['annotations/validation']) == (20210, 2000)
    assert (counts['VOC2007/JPEGImages'], counts['VOC2012/Annotations']) == (9963, 17125)
    assert np.prod([len(a.checksum) > 30 for n in ('coco', 'voc') for a in DATA_SETS[n].archives]) == 1


def test_imagenet(tmp_path, monkeypatch, capsys):
    source, counts = tmp_path / 'unpacked', dict(train=1001, val=1000)
    monkeypatch.setattr(prepare_module, '_IMAGENET', counts)
    with pytest.raises(UserError, match=r'no folder at .*train: get ILSVRC2012'):
        prepare_imagenet(source)
    for split in counts:
        for folder in synsets('imagenet-1k'):
            (source / split / folder).mkdir(parents=True)
            (source / split / folder / '0.JPEG').write_bytes(picture())
    with pytest.raises(UserError, match=r'train has 1000 of 1001 images'):
        prepare_imagenet(source)
    (source / 'train' / 'n01440764' / '1.JPEG').write_bytes(picture())
    root = prepare_imagenet(source, tmp_path / 'data' / 'imagenet')
    assert root.is_symlink() and 'imagenet -> ' in capsys.readouterr().out
    assert prepare_imagenet(None, root) == root
    (source / 'val' / 'n01440764' / '0.JPEG').unlink()
    (source / 'val' / 'n01440764').rmdir()
    with pytest.raises(UserError, match="has no folder 'n01440764'"):
        prepare_imagenet(source)
