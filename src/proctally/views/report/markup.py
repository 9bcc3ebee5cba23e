"""Pages and diagrams from templates. What is put into one is escaped, and its control characters are shown as text."""

from __future__ import annotations

import re
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from proctally.text.cells import UNITS
from proctally.text.escape import html, printable

PACKAGE = "proctally.views.report"
UNIT = re.compile(rf"(\d) ({'|'.join(sorted(UNITS))})(?=\W|$)")


def _shown(value: object) -> object:
    return value if isinstance(value, Markup) else printable(str(value))


TEMPLATES = Environment(
    loader=PackageLoader(PACKAGE),
    autoescape=True,
    finalize=_shown,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def kept(text: object) -> Markup:
    """Return text in which a number and its unit stay in one line."""
    return Markup(UNIT.sub("\\1&nbsp;\\2", html(text)))


TEMPLATES.filters["kept"] = kept


def rendered(template: str, **values: object) -> str:
    """Return a template with its values."""
    return TEMPLATES.get_template(template).render(values).strip() + "\n"


def own(name: str) -> Markup:
    """Return a file of this package, which contains nothing of a record."""
    return Markup(resources.files(PACKAGE).joinpath(name).read_text(encoding="utf-8"))


def plain_style() -> Markup:
    """Return the part of page.css that is of the diagrams, with the light colours in place of their names."""
    style = own("page.css")
    colours = dict(re.findall(r"(--\w+): (#\w+)", style.partition("}")[0]))
    diagrams = style.partition("/* diagrams */")[2].partition("/* end */")[0]
    return Markup(re.sub(r"var\((--\w+)\)", lambda found: colours[found[1]], diagrams))
