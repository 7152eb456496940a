"""An MkDocs hook: a page that would fetch something from elsewhere is a warning.

With `strict: true` in mkdocs.yml, warnings end the build.
"""

import logging
import re

_FETCHED = re.compile(r'<(?:script|img|iframe)\b[^>]*\bsrc="?(?:https?:)?//[^">]*')
_LINKED = re.compile(r"<link\b[^>]*>")
_ELSEWHERE = re.compile(r'\bhref="?(?:https?:)?//')

log = logging.getLogger("mkdocs.hooks.offline")


def on_post_page(output, page, config):
    """Looks through the HTML of a finished page."""
    links = [link for link in _LINKED.findall(output) if _ELSEWHERE.search(link)]
    for tag in _FETCHED.findall(output) + links:
        log.warning("%s fetches from elsewhere: %s", page.file.src_uri, tag)
    return output
