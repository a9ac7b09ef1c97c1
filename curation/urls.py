"""URLs: one spelling for addresses that lead to the same page.

Left out are what a server does not see or does not answer to: scheme (http and https are one),
user, default port, fragment, a slash at the end, and the parameters by which advertisers and
newsletters follow their readers. The host is in lower case. Path and other parameters are kept as
they are: servers may tell their case and their order apart.
"""

import re
from urllib.parse import urlsplit

# Names of parameters that tell where a reader came from, and nothing of the page.
_TRACKING = re.compile(
    r"utm_.*|[dgy]clid|fbclid|msclkid|(?:tw|tt)clid|[gw]braid|gclsrc|igshid|mc_[ce]id|_g[al]|"
    r"_hsenc|_hsmi|mkt_tok|oly_(?:anon|enc)_id|vero_id"
)
_PORTS = {"http": 80, "https": 443}


def normalise_url(url: str | None) -> str | None:
    """Give the normal form of an http(s) address, `host[:port]/path[?query]`; None for others."""
    try:
        parts = urlsplit((url or "").strip())
        port = parts.port
    except ValueError:  # brackets or ports that are none
        return None
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme not in _PORTS or not host:
        return None
    if port is not None and port != _PORTS[parts.scheme]:
        host += f":{port}"
    kept = [
        part
        for part in parts.query.split("&")
        if part and not _TRACKING.fullmatch(part.partition("=")[0].lower())
    ]
    query = "?" + "&".join(kept) if kept else ""
    return f"{host}{parts.path.rstrip('/')}{query}"
