"""Which web pages may open a socket with their reader's cookie. Pure.

Browsers send the session cookie to any server that a page names, so the page's origin must be ours. Programs send no Origin:
they are let in without a cookie and must show a token.
"""

from collections.abc import Sequence
from urllib.parse import urlsplit


def is_own_origin(origin: str, host: str, trusted: Sequence[str]) -> bool:
    """True when the page came from the host that it now connects to, or from an origin listed as trusted.

    Only host names are compared: the pages and the stream are served on different ports of one host, and so are cookies.
    """
    if origin in trusted:
        return True
    try:
        page, server = urlsplit(origin), urlsplit(f"//{host}")
    except ValueError:
        return False
    return page.scheme in ("http", "https") and page.hostname is not None and page.hostname == server.hostname
