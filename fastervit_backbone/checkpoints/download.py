"""Download weight files, once for all processes."""

import hashlib
import logging
import re
from pathlib import Path
from urllib.parse import unquote, urlparse

import torch
from filelock import FileLock

from ..utils.errors import DownloadError, cause_of
from ..utils.log import log

LICENSE_NOTE = (
    'The published FasterViT weights are under a non-commercial license '
    '(NVIDIA Source Code License-NC / CC BY-NC-SA 4.0): see NOTICE.'
)


#: Of the published weights, on huggingface.co.
PUBLISHED_REPOSITORY = 'ahatamiz/FasterViT'


def download_file(url: str) -> Path:
    """Download a file once: one process does it, all others, of this run or another, wait for the file.

    A file in torch's hub folder takes precedence, so that users can put it there by hand: the published
    weights under their own name, any other with a digest of its URL, as two URLs can end in the same name.
    """
    hub_file, name = _split_hub_url(url), Path(urlparse(url).path)
    file_name = name.name
    if hub_file is None or hub_file[0] != PUBLISHED_REPOSITORY:
        file_name = f'{name.stem}-{hashlib.sha256(url.encode()).hexdigest()[:12]}{name.suffix}'
    path = Path(torch.hub.get_dir()) / 'checkpoints' / file_name
    if path.is_file():
        log(f'{url}: using {path}')
        return path
    try:
        if hub_file:
            return _download_from_hub(url, *hub_file)
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f'{path.name}.lock')):
            if not path.is_file():
                log(f'downloading {url} to {path}. {LICENSE_NOTE}')
                torch.hub.download_url_to_file(url, str(path))
    except Exception as error:  # the Hub's library raises errors of its HTTP client
        otherwise = 'train from scratch with --cfg-options model.backbone.init_cfg=None'
        raise DownloadError(url, cause_of(error), str(path), otherwise) from error
    return path


def _split_hub_url(url: str) -> tuple[str, str, str] | None:
    """Split ``https://huggingface.co/REPO/resolve/REVISION/FILE``; None for any other URL."""
    parts = urlparse(url)
    match = re.fullmatch(r'/((?!datasets/|spaces/)[^/]+(?:/[^/]+)?)/resolve/([^/]+)/(.+)', parts.path)
    if parts.hostname != 'huggingface.co' or match is None:
        return None
    repo_id, revision, filename = map(unquote, match.groups())
    return repo_id, revision, filename


def _download_from_hub(url: str, repo_id: str, revision: str, filename: str) -> Path:
    """Return a file of the Hugging Face cache, downloaded if necessary.

    huggingface_hub resumes a broken download, checks the size and honors HF_ENDPOINT and HF_HUB_OFFLINE.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    cached = try_to_load_from_cache(repo_id, filename, revision=revision)
    if isinstance(cached, str):
        return Path(cached)
    logging.getLogger('huggingface_hub.utils._http').setLevel(logging.ERROR)  # each try; the error is ours
    log(f'downloading {url} to the Hugging Face cache. {LICENSE_NOTE}')
    return Path(hf_hub_download(repo_id, filename, revision=revision))
