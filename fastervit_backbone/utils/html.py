"""Pages from jinja2 templates."""

import base64
from pathlib import Path


def render(template_name: str, *, folder: Path | None = None, **values: object) -> str:
    """Fill in a template; in HTML every value is escaped, and a missing one raises.

    Args:
        template_name: file name of the template, such as 'report.html.j2'.
        folder: folder of the template; None: ``fastervit_backbone/templates``.
        **values: variables of the template.

    Raises:
        jinja2.TemplateNotFound: there is no such template.
        jinja2.UndefinedError: the template uses a variable that is not in ``values``.
    """
    from jinja2 import Environment, FileSystemLoader, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader('fastervit_backbone') if folder is None else FileSystemLoader(folder),
        autoescape='.html' in template_name,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template_name).render(values)


def data_uri(picture: bytes, kind: str = 'png') -> str:
    """Return the bytes of a picture as a ``data:`` URI for ``<img src>``; ``kind``: 'png' or 'jpeg'."""
    return f'data:image/{kind};base64,{base64.b64encode(picture).decode()}'
