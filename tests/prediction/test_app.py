"""The page in a real browser: upload, drawing, threshold and download; bad and large files are rejected."""

import json
import re
import shutil
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('gradio')
pytest.importorskip('playwright')

from playwright.sync_api import sync_playwright

from fastervit_backbone.prediction.app import Uploads
from fastervit_backbone.utils.errors import UserError
from tests.helpers import CASCADE, UPERNET, assert_one_line_error
from tests.processes import COMMAND, environment, verb

BROWSER = shutil.which('chromium') or shutil.which('google-chrome')
FLAGS = [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
]
needs_browser = pytest.mark.skipif(BROWSER is None, reason='Chromium is missing (make browser installs it)')


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


@pytest.fixture
def serve(tmp_path):
    """Start the server; returns its address."""
    processes = []

    def start(*arguments):
        port = free_port()
        log = tmp_path / f'{port}.log'
        command = [sys.executable, COMMAND, 'app', *arguments, '--port', port]
        with log.open('w') as file:
            options = dict(cwd=tmp_path, env=environment(), stdout=file, stderr=subprocess.STDOUT)
            processes.append(subprocess.Popen(list(map(str, command)), **options))
        deadline = time.monotonic() + 120
        while f'http://127.0.0.1:{port}' not in log.read_text():
            assert processes[-1].poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        return f'http://127.0.0.1:{port}'

    yield start
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture
def page():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield browser.new_page(accept_downloads=True, viewport=dict(width=1200, height=900))
        browser.close()


def counted(page):
    """Number of objects or regions that the page shows."""
    page.wait_for_function(
        r"/\d+ (objects|regions)/.test(document.querySelector('#count').innerText)", timeout=60000
    )
    return int(re.match(r'\d+', page.inner_text('#count')).group())


@needs_browser
def test_objects(serve, page, detector, shapes, tmp_path):
    address = serve(CASCADE, detector, '--max-megapixels', '0.5', '--threshold', '0.3')
    urls = []
    page.on('request', lambda request: urls.append(request.url))
    page.goto(address)
    image = sorted((shapes / 'images' / 'val').glob('*.png'))[0]
    page.set_input_files('#upload input[type=file]', str(image))
    page.wait_for_selector('#picture img', timeout=60000)
    initial = counted(page)
    slider = page.locator('#threshold input[type=number]')
    counts = []
    for value in ('0.95', '0.05'):  # as someone types it
        slider.fill(value)
        page.keyboard.press('Enter')
        page.wait_for_selector(f'text=score at least {value}', timeout=60000)
        counts.append(counted(page))
    assert counts[0] < counts[1] and counts[0] <= initial <= counts[1]
    with page.expect_download() as download:
        page.click('#download')
    content = json.loads(open(download.value.path()).read())
    assert content['info'] == dict(threshold=0.05)
    assert len(content['annotations']) == counts[1] and {c['id'] for c in content['categories']} == {7, 0, 90}
    page.screenshot(path=str(tmp_path / 'page.png'))
    assert np.asarray(Image.open(tmp_path / 'page.png').convert('L')).std() > 20

    (tmp_path / 'words.png').write_text('not an image')
    Image.new('RGB', (1000, 600)).save(tmp_path / 'large.png')
    for name, message in (
        ('words.png', 'cannot be read as an image'),
        ('large.png', '1000x600 pixels, more than the limit of 0.5 megapixels'),
    ):
        page.reload()
        page.set_input_files('#upload input[type=file]', str(tmp_path / name))
        page.wait_for_selector(f'#count >> text={message}', timeout=60000)
        assert 'tools/' not in page.inner_text('#count') and page.inner_text('#count').startswith('Error: ')
    assert all(url.startswith((address, 'data:', 'blob:')) for url in urls), urls  # the page needs no network


@needs_browser
def test_regions(serve, page, segmenter, shapes):
    page.goto(serve(UPERNET, segmenter))
    page.set_input_files('#upload input[type=file]', str(next((shapes / 'images' / 'val').glob('*.png'))))
    page.wait_for_selector('#picture img', timeout=60000)
    assert counted(page) >= 1
    assert not page.locator('#threshold').is_visible()


def test_errors_are_one_line(detector, tmp_path):
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        done = verb('app', CASCADE, detector, '--port', taken.getsockname()[1], cwd=tmp_path)
        assert_one_line_error(done, '--port')
    assert_one_line_error(verb('app', CASCADE, tmp_path / 'none.pth', cwd=tmp_path), r'none\.pth')


def test_uploads_are_copied_and_limited_in_number(tmp_path):
    """Gradio deletes uploads after an hour: the slider reads our copy; only the latest copies are kept."""
    uploads, copies = Uploads(limit=2), []
    for i in range(4):
        image = tmp_path / 'same name.png'
        Image.new('RGB', (8, 8), (i, 0, 0)).save(image)
        copies.append(uploads.keep(image))
        image.unlink()
    assert [Image.open(uploads.find(c)).getpixel((0, 0))[0] for c in copies[2:]] == [2, 3]
    assert not copies[0].parent.exists() and len(list(copies[3].parents[1].iterdir())) == 2
    with pytest.raises(UserError, match=r'same name\.png was replaced by the last 2 uploads'):
        uploads.find(copies[1])
