"""Reads pip's and uv's own configuration, so that a company mirror or a wheel folder just works.

Standard library only and importable on its own: the launcher uses it before anything is installed.
"""

from __future__ import annotations

import configparser
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

# What a user may have set for uv on purpose. Every other UV_* variable belongs to the shell that
# Fettle was started from (an active project, a lock, a tool) and would change what gets installed.
KEPT_UV_VARIABLES = (
    "UV_INDEX",
    "UV_DEFAULT_INDEX",
    "UV_INDEX_URL",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_NO_INDEX",
    "UV_INDEX_STRATEGY",
    "UV_INSECURE_HOST",
    "UV_KEYRING_PROVIDER",
    "UV_SYSTEM_CERTS",
    "UV_NATIVE_TLS",
    "UV_HTTP_TIMEOUT",
    "UV_HTTP_RETRIES",
    "UV_OFFLINE",
    "UV_CACHE_DIR",
    "UV_LINK_MODE",
    "UV_PYTHON_INSTALL_DIR",
    "UV_PYTHON_DOWNLOADS",
    "UV_PYTHON_INSTALL_MIRROR",
    "UV_CONCURRENT_DOWNLOADS",
)
_INDEX_CREDENTIALS = re.compile(r"UV_INDEX_[A-Z0-9_]+_(USERNAME|PASSWORD)")
_OPTIONS = ("index-url", "extra-index-url", "find-links", "no-index", "cert", "proxy", "trusted-host", "timeout")


def uv_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables that give uv what pip's and uv's own configuration say.

    What is set for uv itself wins over what is set for pip.
    """
    environ = os.environ if environ is None else environ
    added = {name: value for name, value in environ.items() if _kept(name) and value}
    own_file = uv_config_file(environ)
    if own_file is None:
        # Otherwise uv would also read the pyproject.toml of whatever folder lies above it.
        added["UV_NO_CONFIG"] = "1"
    else:
        added["UV_CONFIG_FILE"] = str(own_file)
    options = pip_options(environ)
    own_text = own_file.read_text(encoding="utf-8", errors="replace") if own_file else ""
    for name, value in _as_uv(options, environ).items():
        if not _set_for_uv(name, added, own_text):
            added.setdefault(name, value)
    return added


def pip_options(environ: Mapping[str, str]) -> dict[str, str]:
    """pip's own options, in pip's order: global, user, site, PIP_CONFIG_FILE, then PIP_* variables."""
    options: dict[str, str] = {}
    for file in pip_config_files(environ):
        options.update(_read_pip_file(file))
    for option in _OPTIONS:
        value = environ.get("PIP_" + option.upper().replace("-", "_"))
        if value:
            options[option] = value
    return options


def pip_config_files(environ: Mapping[str, str]) -> list[Path]:
    """The configuration files that pip would read, the weakest first."""
    named = environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return []
    files = list(_global_files(environ))
    if not (named and Path(named).exists()):
        files += _user_files(environ)
    name = "pip.ini" if sys.platform == "win32" else "pip.conf"
    # Fettle runs in a private environment, so the interpreter below it counts as the site too.
    files += [Path(prefix) / name for prefix in dict.fromkeys((sys.base_prefix, sys.prefix))]
    if named:
        files.append(Path(named))
    return [file for file in files if file.is_file()]


def uv_config_file(environ: Mapping[str, str]) -> Path | None:
    """The user's or the system's uv.toml; configuration of surrounding projects does not count."""
    if environ.get("UV_NO_CONFIG"):
        return None
    named = environ.get("UV_CONFIG_FILE")
    if named:
        return Path(named) if Path(named).is_file() else None
    home = _home(environ)
    if sys.platform == "win32":
        candidates = [
            Path(environ.get("APPDATA", home / "AppData/Roaming")) / "uv/uv.toml",
            Path(environ.get("PROGRAMDATA", r"C:\ProgramData")) / "uv/uv.toml",
        ]
    else:
        candidates = [
            Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "uv/uv.toml",
            Path("/etc/xdg/uv/uv.toml"),
            Path("/etc/uv/uv.toml"),
        ]
    return next((file for file in candidates if file.is_file()), None)


def _kept(name: str) -> bool:
    return name in KEPT_UV_VARIABLES or _INDEX_CREDENTIALS.fullmatch(name) is not None


def _home(environ: Mapping[str, str]) -> Path:
    named = environ.get("USERPROFILE" if sys.platform == "win32" else "HOME")
    return Path(named) if named else Path.home()


def _global_files(environ: Mapping[str, str]) -> Iterator[Path]:
    if sys.platform == "win32":
        yield Path(environ.get("PROGRAMDATA", r"C:\ProgramData")) / "pip/pip.ini"
    elif sys.platform == "darwin":
        yield Path("/Library/Application Support/pip/pip.conf")
    else:
        for folder in reversed((environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")):
            yield Path(folder) / "pip/pip.conf"
        yield Path("/etc/pip.conf")


def _user_files(environ: Mapping[str, str]) -> list[Path]:
    home = _home(environ)
    if sys.platform == "win32":
        roaming = Path(environ.get("APPDATA", home / "AppData/Roaming"))
        return [home / "pip/pip.ini", roaming / "pip/pip.ini"]
    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    mac = home / "Library/Application Support"
    if sys.platform == "darwin" and (mac / "pip").is_dir():
        config = mac
    return [home / ".pip/pip.conf", config / "pip/pip.conf"]


def broken_pip_file(environ: Mapping[str, str]) -> tuple[Path, str] | None:
    """The first of pip's files that cannot be understood, and why.

    Whoever installs must stop there, as pip does: the index that it names would be passed over for the public one.
    """
    for file in pip_config_files(environ):
        try:
            _parse(file)
        except configparser.Error as error:
            return file, " ".join(str(error).split())
        except OSError:
            continue  # pip passes over what it may not read
    return None


def _parse(file: Path) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser()
    parser.read_string(file.read_text(encoding="utf-8-sig", errors="replace"), source=str(file))
    return parser


def _read_pip_file(file: Path) -> dict[str, str]:
    try:
        parser = _parse(file)
    except (OSError, configparser.Error):
        return {}
    found: dict[str, str] = {}
    # pip applies the command's own section after [global].
    for section in ("global", "install"):
        if parser.has_section(section):
            for key, value in parser.items(section):
                option = key.replace("_", "-")
                if option in _OPTIONS and value:
                    found[option] = value
    return found


def _as_uv(options: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """pip's options as uv's variables."""
    result: dict[str, str] = {}
    if options.get("index-url"):
        result["UV_DEFAULT_INDEX"] = options["index-url"].strip()
    extra = list(_reachable(options.get("extra-index-url", "").split()))
    if extra:
        result["UV_EXTRA_INDEX_URL"] = " ".join(extra)
        # pip takes the best version of all indexes; uv by default takes the first index that
        # knows the package at all.
        result["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    links = list(_reachable(_absolute(options.get("find-links", "").split())))
    if links:
        result["UV_FIND_LINKS"] = ",".join(links)
    if options.get("no-index", "").strip().lower() in ("1", "true", "yes", "on"):
        result["UV_NO_INDEX"] = "1"
    return result | _connection(options, environ)


def _connection(options: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """pip's options for how to reach an index; certificate and proxy of the shell win."""
    result: dict[str, str] = {}
    if options.get("trusted-host"):
        result["UV_INSECURE_HOST"] = " ".join(options["trusted-host"].split())
    if options.get("cert") and not environ.get("SSL_CERT_FILE"):
        result["SSL_CERT_FILE"] = options["cert"].strip()
    if options.get("timeout", "").strip().isdigit():
        result["UV_HTTP_TIMEOUT"] = options["timeout"].strip()
    if options.get("proxy"):
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            if not environ.get(name) and not environ.get(name.lower()):
                result[name] = options["proxy"].strip()
    return result


def _absolute(links: Iterable[str]) -> Iterator[str]:
    # uv runs in another folder than the shell whose configuration this is.
    for link in links:
        yield link if "://" in link else os.path.abspath(os.path.expanduser(link))


def _reachable(addresses: Iterable[str]) -> Iterator[str]:
    # pip passes over a folder that does not exist with a warning, uv stops at it.
    for address in addresses:
        parts = urlsplit(address)
        if ("://" in address and parts.scheme != "file") or os.path.exists(
            unquote(parts.path) if parts.scheme == "file" else address
        ):
            yield address


_UV_SYNONYMS = {
    "UV_DEFAULT_INDEX": (("UV_DEFAULT_INDEX", "UV_INDEX_URL"), r"^\s*(index-url|default)\s*="),
    "UV_EXTRA_INDEX_URL": (("UV_EXTRA_INDEX_URL", "UV_INDEX"), r"^\s*extra-index-url\s*="),
    "UV_INDEX_STRATEGY": (("UV_INDEX_STRATEGY",), r"^\s*index-strategy\s*="),
    "UV_FIND_LINKS": (("UV_FIND_LINKS",), r"^\s*find-links\s*="),
}


def _set_for_uv(name: str, added: Mapping[str, str], own_text: str) -> bool:
    """Whether uv's own variables or configuration already answer what pip's option would."""
    names, pattern = _UV_SYNONYMS.get(name, ((name,), None))
    if any(each in added for each in names):
        return True
    return pattern is not None and re.search(pattern, own_text, re.MULTILINE) is not None
