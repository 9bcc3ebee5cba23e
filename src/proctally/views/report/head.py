"""The head of a page: verdict, the figures that matter, what was waited for, what to request next time."""

from __future__ import annotations

import shlex
import time
from itertools import accumulate

from proctally.record.values import section_at
from proctally.text.escape import html
from proctally.text.secrets import mask_recorded
from proctally.text.units import percentage
from proctally.views.report import request, run_facts, waits
from proctally.views.report.markup import bullets, section

TYPE_CHECKING = False
if TYPE_CHECKING:
    from proctally.views.report.run_facts import Facts


MAX_COMMAND = 1 << 18  # characters of a command line


def title(facts: Facts) -> str:
    """What ran, how it ended, where and when."""
    run, story = facts.story.run, facts.story
    mood = run_facts.MOODS.get(facts.verdict, run_facts.BAD)
    command = run.get("command") or []
    shown = [word for word, size in zip(command, accumulate(map(len, command)), strict=True) if size <= MAX_COMMAND]
    words, rest = mask_recorded(shown), " ..." if len(shown) < len(command) else ""
    told = f'<pre class="command"><code>{html(shlex.join(words) + rest)}</code></pre>' if words else ""
    where = [
        time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(story.past.started_at)),
        f"host {story.host['hostname']}" if story.host.get("hostname") else "",
        f"user {run['user']}" if run.get("user") else "",
        f"in {run['cwd']}" if run.get("cwd") else "",
        f"{run.get('kind')} {story.past.short_id}",
        *(f"{key}={value}" for key, value in section_at(run, "tags").items()),
    ]
    return f"""<div class="title"><h1>{html(story.title)}</h1>
<span class="verdict {mood}">{html(facts.verdict)}</span><span>{html(facts.reason)}</span></div>
{told}<p class="small soft">{html(" · ".join(fact for fact in where if fact))}</p>"""


def figures_that_matter(facts: Facts) -> str:
    """A card each, with a meter where there is a limit."""
    rows = []
    for figure in run_facts.head(facts):
        meter = ""
        if figure.ratio is not None:
            share = min(1.0, max(0.0, figure.ratio))
            text = f"{percentage(figure.ratio)} {figure.of}"
            meter = f'<meter min="0" max="1" value="{share:.4f}" aria-label="{html(text)}">{html(text)}</meter>'
        mark = ' <span class="soft small">at least</span>' if figure.incomplete else ""
        rows.append(
            f'<div class="figure"><dt>{html(figure.label)}</dt><dd><div class="value">{html(figure.value)}{mark}</div>'
            f'{meter}<div class="note">{html(figure.note)}</div></dd></div>'
        )
    return f'<section aria-label="Figures"><dl class="figures">{"".join(rows)}</dl></section>'


def what_it_waited_for(facts: Facts) -> str:
    """What it waited for: in one sentence, and each with its share."""
    rows = []
    for wait in waits.waits(facts):
        share = "" if wait.share is None else f' <span class="share">{html(percentage(wait.share))}</span>'
        rows.append(f'<li><span class="what">{html(wait.what)}{share}</span><span>{html(wait.text)}</span></li>')
    body = f'<p class="headline">{html(waits.headline(facts))}</p><ul class="waits small">{"".join(rows)}</ul>'
    first, *users = run_facts.others(facts) or [""]
    body += f'<p class="small">Other jobs {html(first)}</p>{bullets(users)}' if users else ""
    return section("waits", "What it waited for", body)


def what_to_request(facts: Facts) -> str:
    """The place for advice."""
    found = request.next_time(facts)
    return section("next", "What to request next time", bullets(found)) if found else ""
