"""Hook of mkdocs.yml: the files of the repository's root that docs/ links to become pages of the site."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent.parent
#: File of the root -> its place in the site.
PAGES = {
    'README.md': 'index.md',
    'CONTRIBUTING.md': 'CONTRIBUTING.md',
    'CHANGELOG.md': 'CHANGELOG.md',
    'NOTICE': 'NOTICE.md',
    'LICENSE': 'LICENSE.md',
    'requirements.txt': 'requirements.txt',
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    for name, place in PAGES.items():
        text = (ROOT / name).read_text()
        if not name.endswith(('.md', '.txt')):
            text = f'# {name.capitalize()}\n\n```text\n{text}```\n'
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links between docs/ and the root meet: on the site both are one folder."""
    if page.file.src_uri in PAGES.values():
        markdown = re.sub(r'\]\(docs/', '](', markdown)
    for name, place in PAGES.items():
        markdown = re.sub(rf'\]\((?:\.\./)?{re.escape(name)}([)#])', rf']({place}\1', markdown)
    return markdown
