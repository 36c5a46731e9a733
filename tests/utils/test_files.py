import pytest

from fastervit_backbone.utils.errors import UserError
from fastervit_backbone.utils.files import check_file_writable, check_folder_writable, replacing


def test_a_file_is_replaced_only_after_success(tmp_path):
    path = tmp_path / 'new' / 'a.txt'
    with replacing(path) as temporary:
        temporary.write_text('first')
        assert not path.exists()
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text('second')
        raise RuntimeError
    assert path.read_text() == 'first' and list(path.parent.iterdir()) == [path]


def test_a_full_disk_is_one_line_and_keeps_the_old_file(tmp_path, small_files_only):
    path = tmp_path / 'a.txt'
    path.write_text('old')
    with pytest.raises(UserError, match=r'cannot write .*a\.txt: File too large') as error:
        with replacing(path) as temporary:
            temporary.write_bytes(b'0' * 10_000)
    assert '\n' not in str(error.value)
    assert path.read_text() == 'old' and list(tmp_path.iterdir()) == [path]


def test_unwritable_places_are_named(tmp_path):
    file, link = tmp_path / 'file', tmp_path / 'link'
    file.touch()
    link.symlink_to(tmp_path / 'missing')
    with pytest.raises(UserError, match=r'--out .*sub: cannot write to .*file, which is a file'):
        check_folder_writable('--out', file / 'sub')
    with pytest.raises(UserError, match=r'--out .*sub: .*link is a broken link'):
        check_folder_writable('--out', link / 'sub')
    with pytest.raises(UserError, match=r'--out .* is a folder: name a file'):
        check_file_writable('--out', tmp_path)
    with pytest.raises(UserError, match=r'cannot write .*file/a\.txt: '), replacing(file / 'a.txt'):
        pass
    check_folder_writable('--out', tmp_path / 'new' / 'folder')
    check_file_writable('--out', tmp_path / 'new' / 'a.txt')
