"""Which MLflow stores can be named: what is wrong with a URI, told from its text alone."""

from __future__ import annotations

from urllib.parse import urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
SCHEMES = ("sqlite", *DEFAULT_PORTS)


def uri_problem(uri: str) -> str | None:
    """Return why this is no store that runs can be written to, or None."""
    accepted = f"accepted are {', '.join(f'{scheme}://' for scheme in SCHEMES)}; null is SQLite in paths.root"
    try:
        parts = urlsplit(uri)
        host, _ = parts.hostname, parts.port
    except ValueError as err:
        return f"'{_shown(uri)}' has no valid host and port ({err}); {accepted}"
    scheme = parts.scheme.split("+")[0]
    if not scheme or ("://" not in uri and not uri.startswith("sqlite:")):
        return f"'{_shown(uri)}' has no scheme, and MLflow's folders of files are not written; {accepted}"
    if scheme == "file":
        return f"'{_shown(uri)}' is a folder of files, which is not written; {accepted}"
    if scheme not in SCHEMES:
        return f"'{_shown(uri)}' is not a known store; {accepted}"
    if scheme == "sqlite":
        return None if uri.startswith("sqlite:///") else f"'{_shown(uri)}' names no file; write sqlite:///PATH"
    return None if host else f"'{_shown(uri)}' names no host; write {scheme}://HOST:PORT"


def _shown(uri: str) -> str:
    """The URI without the password that it may hold."""
    before, at, after = uri.rpartition("@")
    scheme, mark, login = before.partition("://")
    return f"{scheme}{mark}{login.split(':')[0]}:***@{after}" if at and ":" in login else uri
