"""What lies where on this machine: system folders, interpreters, and everybody's secrets."""

from __future__ import annotations

import os
import stat
import sys
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from rootbound_lda.machine_settings import machine_secrets
from rootbound_lda.pins import Identity, identity_of

DEVICES = tuple(
    Path("/dev") / name for name in ("null", "zero", "full", "random", "urandom", "tty", "ptmx")
)
SYSTEM = (
    "/usr", "/lib", "/lib32", "/lib64", "/libx32", "/bin", "/sbin", "/opt", "/proc",
    "/sys/devices/system", "/sys/fs/cgroup", "/sys/kernel/mm", "/nix/store",
    "/snap", "/run/current-system",
)  # fmt: skip
_LISTED = (Path("/usr"), Path("/opt"))
MACHINE = (
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/run",
    "/sbin", "/sys", "/usr",
)  # fmt: skip
"""What is never a root: a run that changes these changes the machine."""

HOME_SECRETS = (
    # Keys, passwords and tokens of tools; folders and files alike.
    ".ssh", ".gnupg", ".pki", ".aws", ".azure", ".oci", ".kube", ".minikube", ".docker", ".helm",
    ".netrc", "_netrc", ".npmrc", ".yarnrc.yml", ".pypirc", ".pip", ".git-credentials",
    ".vault-token", ".password-store", ".terraform.d", ".terraformrc", ".pulumi", ".fly",
    ".databrickscfg", ".snowflake", ".snowsql", ".s3cfg", ".boto", ".rclone.conf", ".pgpass",
    ".my.cnf", ".mylogin.cnf", ".dbshell", ".smbcredentials", ".kaggle", ".huggingface",
    ".cache/huggingface/token", ".cache/huggingface/stored_tokens", ".gem/credentials",
    ".bundle/config", ".cargo/credentials", ".cargo/credentials.toml", ".m2/settings.xml",
    ".m2/settings-security.xml", ".gradle/gradle.properties", ".composer/auth.json", ".nuget/NuGet",
    ".mc/config.json", ".travis", ".age", ".electrum", ".bitcoin", ".ethereum",
    # The same below .config and .local.
    ".config/gcloud", ".config/gh", ".config/glab-cli", ".config/hub", ".config/op",
    ".config/rclone", ".config/doctl", ".config/hcloud", ".config/heroku", ".config/pip",
    ".config/containers/auth.json", ".config/composer/auth.json", ".config/git/credentials",
    ".config/sops", ".config/age", ".config/keybase", ".config/github-copilot", ".config/stripe",
    ".config/netlify", ".config/configstore", ".config/Bitwarden", ".config/Signal",
    ".config/Slack", ".local/share/keyrings", ".local/share/kwalletd", ".local/share/pass",
    # Agents and editors, whose logins open more than this machine.
    ".claude", ".claude.json", ".codex", ".gemini", ".aider", ".config/goose",
    ".local/share/opencode/auth.json", ".continue",
    # Browsers and mail.
    ".mozilla", ".thunderbird", ".config/google-chrome", ".config/chromium",
    ".config/BraveSoftware", ".config/microsoft-edge", ".config/vivaldi", ".config/opera",
    "snap/firefox", "Library/Keychains", "Library/Cookies", "Library/Application Support/Google",
    "Library/Application Support/Firefox",
    # What was typed.
    ".bash_history", ".zsh_history", ".python_history", ".psql_history", ".mysql_history",
    ".sqlite_history", ".node_repl_history", ".local/share/fish/fish_history",
    # Jupyter: whoever reads these is the user.
    ".jupyter", ".local/share/jupyter/runtime", "Library/Jupyter/runtime",
    ".ipython/profile_default/security", ".ipython/profile_default/history.sqlite",
)  # fmt: skip
"""Beneath a home folder: neither readable nor writable to a run, whatever is granted."""

_STARTED = (
    ".ipython", ".local/share/jupyter", ".local/lib", ".config/autostart", ".config/systemd",
    ".config/environment.d", ".local/share/systemd",
)  # fmt: skip
_STARTED_VARIABLES = ("JUPYTER_DATA_DIR", "IPYTHONDIR", "PYTHONUSERBASE")

_SECRET_VARIABLES = (
    "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "XDG_RUNTIME_DIR", "GNUPGHOME", "KUBECONFIG",
    "DOCKER_CONFIG", "CLOUDSDK_CONFIG", "GH_CONFIG_DIR", "AZURE_CONFIG_DIR",
    "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "GOOGLE_APPLICATION_CREDENTIALS",
    "PGPASSFILE", "NETRC", "PASSWORD_STORE_DIR", "SSH_AUTH_SOCK", "XAUTHORITY",
)  # fmt: skip
_ETC_SECRETS = frozenset({
    "shadow", "shadow-", "gshadow", "gshadow-", "sudoers", "sudoers.d", "krb5.keytab",
    "wpa_supplicant", "NetworkManager", "wireguard", "openvpn", "ipsec.secrets", "ppp",
    "kubernetes", "rancher", "letsencrypt", "docker", "security", "crypttab", "cups", "opasswd",
    "redis", "postgresql",
    "mysql", "grafana", "credstore", "credstore.encrypted",
})  # fmt: skip
_CA_VARIABLES = (
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT",
    "GIT_SSL_CAINFO", "NODE_EXTRA_CA_CERTS",
)  # fmt: skip


def within(path: Path, folder: Path) -> bool:
    """Tell whether a path is a folder or lies in it; both canonical."""
    return _within(os.fspath(path), os.fspath(folder))


def _within(inner: str, outer: str) -> bool:
    # As text: a policy takes thousands of these, and `Path.parents` costs a hundred times as much.
    return inner == outer or inner.startswith(outer if outer == "/" else f"{outer}/")


def overlaps(first: Path, second: Path) -> bool:
    """Tell whether one of two canonical paths holds the other."""
    one, other = os.fspath(first), os.fspath(second)
    return _within(one, other) or _within(other, one)


def overlaps_any(path: Path, places: tuple[Path, ...]) -> bool:
    """Tell whether a canonical path holds one of some canonical places, or lies in one."""
    known = _texts_of(places)
    names, ordered = known.names, known.ordered
    text = os.fspath(path)
    if any(folder in names for folder in _upwards(text)):
        return True
    below = text if text == "/" else f"{text}/"
    nearest = bisect_left(ordered, below)
    return nearest < len(ordered) and ordered[nearest].startswith(below)


class _Texts:
    """Places as text: what overlaps one of a hundred is found without looking at each."""

    def __init__(self, places: tuple[Path, ...]) -> None:
        texts = [os.fspath(place) for place in places]
        self.places = places
        self.names, self.ordered = frozenset(texts), sorted(texts)
        self.known: dict[str, Identity | None] = {}


def _texts_of(places: tuple[Path, ...]) -> _Texts:
    found = _latest[0]
    if found.places is not places:
        found = _latest[0] = _Texts(places)
    return found


_latest = [_Texts(())]
"""Of the last policy that was built: it asks some fifty times."""


def _upwards(text: str) -> Iterator[str]:
    """Yield an absolute path and all that hold it."""
    while text != "/":
        yield text
        text = text.rpartition("/")[0] or "/"
    yield text


def first_met(path: Path, places: Iterable[Path]) -> Path | None:
    """Return the first place that holds a path or lies in it, however the two are spelt.

    They are compared by identity too: on a file system that ignores case, and through bind
    mounts, two spellings are one folder.

    Parameters
    ----------
    path
        A canonical path that exists.
    places
        Canonical paths, which need not exist.
    """
    # As text, like `_within`. The secrets of one policy are looked at once for all its paths.
    known: dict[str, Identity | None] = {}
    if isinstance(places, tuple):
        known = _texts_of(places).known

    def look(place: str) -> Identity | None:
        if place not in known:
            known[place] = identity_of(place)
        return known[place]

    own = os.fspath(path)
    mine = identity_of(own)
    above = {identity_of(folder) for folder in _upwards(own)} - {None}
    for place in places:
        text = os.fspath(place)
        if _within(own, text) or _within(text, own) or look(text) in above:
            return place
        if mine is not None and any(look(folder) == mine for folder in _upwards(text)):
            return place
    return None


def home() -> Path:
    """Return the user's home folder, free of symbolic links."""
    return Path(os.path.realpath(Path("~").expanduser()))


def secret_paths(state_dir: Path) -> tuple[Path, ...]:
    """Return what no run may read or write: the state folder, Jupyter's and users' secrets."""
    here = os.fspath(home())
    found = [Path(os.path.realpath(state_dir))]
    present: dict[str, bool] = {}
    for name in HOME_SECRETS:
        path, top = os.path.join(here, name), os.path.join(here, name.partition("/")[0])  # noqa: PTH118
        if top not in present:
            present[top] = os.path.lexists(top)
        # Where nothing is, no link leads anywhere else.
        found.append(Path(os.path.realpath(path) if present[top] else path))
    for variable in _SECRET_VARIABLES:
        values = os.environ.get(variable, "").split(os.pathsep)
        found += [Path(os.path.realpath(value)) for value in values if Path(value).is_absolute()]
    data = os.environ.get("JUPYTER_DATA_DIR", "")
    if Path(data).is_absolute():
        found.append(Path(os.path.realpath(data)) / "runtime")
    found += machine_secrets()
    return tuple(dict.fromkeys(found))


def present_secrets(state_dir: Path) -> list[str]:
    """Return those places of secrets that exist on this machine, for people to see."""
    return sorted({str(path) for path in secret_paths(state_dir) if os.path.lexists(path)})


def started_from() -> tuple[Path, ...]:
    """Return where code lies that runs as the user by itself, outside of any sandbox.

    Rootbound's own environment, from which its enforcer and mostly Jupyter are started; Jupyter's
    kernels and extensions, IPython's startup files, the user's own packages, what a session starts.
    No run writes there, whatever root it lies in.
    """
    here = home()
    found = list(_own_programs())
    found += [Path(os.path.realpath(here / name)) for name in _STARTED]
    for variable in _STARTED_VARIABLES:
        value = os.environ.get(variable, "")
        if value.startswith("/"):
            found.append(Path(os.path.realpath(value)))
    return tuple(dict.fromkeys(path for path in found if path not in (Path("/"), here)))


@cache
def _own_programs() -> tuple[Path, ...]:
    """Return what this very process was started from, which stays where it is."""
    package = Path(__file__).resolve().parents[1]
    return (
        package,
        *environment_parts(Path(sys.prefix)),
        *environment_parts(Path(sys.base_prefix)),
    )


def environment_parts(prefix: Path) -> Iterator[Path]:
    """Yield what a Python environment runs, beside which a project of the user's may lie."""
    for name in ("bin", "lib", "lib64", "etc", "share", "pyvenv.cfg", "conda-meta"):
        yield Path(os.path.realpath(prefix / name))


def system_readable(secrets: tuple[Path, ...]) -> Iterator[Path]:
    """Yield what programs need to start: system folders, interpreters, certificates."""
    candidates = [Path(name) for name in SYSTEM]
    candidates += _interpreters(secrets)
    for variable in _CA_VARIABLES:
        value = os.environ.get(variable, "")
        if value.startswith("/"):
            candidates.append(Path(value))
    # A link into /run where systemd resolves names.
    candidates.append(Path("/etc/resolv.conf"))
    here = home()
    machine = tuple(machine_secrets())
    for candidate in candidates:
        try:
            resolved = candidate.resolve(strict=True)
        except (OSError, RuntimeError):
            continue
        if within(here, resolved):
            continue
        if not overlaps_any(resolved, secrets):
            yield resolved
        elif not overlaps_any(resolved, tuple(set(secrets).difference(machine))):
            yield from without(resolved, machine)


def _interpreters(secrets: tuple[Path, ...]) -> Iterator[Path]:
    """Yield the prefixes of the interpreters in use; of one that holds secrets, its parts."""
    here = home()
    yield Path(sys.base_prefix)
    yield Path(sys.prefix)
    for text in os.environ.get("PATH", "").split(os.pathsep):
        if Path(text).is_absolute():
            yield from program_places(Path(os.path.realpath(text)), secrets, here)


def program_places(folder: Path, secrets: tuple[Path, ...], here: Path) -> Iterator[Path]:
    """Yield what the programs of a folder need: its prefix, or parts of one that holds secrets.

    Parameters
    ----------
    folder
        Absolute, such as a ``bin``.
    secrets
        What nothing may reach.
    here
        The user's home folder.
    """
    if folder.name not in ("bin", "sbin", "shims"):
        yield folder
        return
    prefix = folder.parent
    if within(here, prefix) or overlaps_any(prefix, secrets):
        yield from (folder, prefix / "lib", prefix / "lib64", prefix / "libexec")
    else:
        yield prefix


def without(folder: Path, secrets: tuple[Path, ...]) -> Iterator[Path]:
    """Yield what a folder holds but for some places in it; links are left out.

    Landlock cannot take a file out of a readable folder, so what lies beside it is named.
    """
    if not overlaps_any(folder, secrets):
        yield folder
    elif folder not in secrets:
        for entry in _entries(folder):
            yield from without(entry, secrets)


def etc(secrets: tuple[Path, ...] = ()) -> tuple[list[Path], tuple[Path, ...]]:
    """Return what is readable of /etc, and what can only be listed.

    Where the user could read secrets in /etc (root can, and so can everybody who is told an index
    with its password), each entry is named instead and the secrets are left out.
    """
    folder = Path("/etc")
    # What can be named beside a secret can be looked for, as by `ls /usr/local`.
    near = [secret for secret in secrets if any(within(secret, one) for one in _LISTED)]
    above = dict.fromkeys(parent for secret in near for parent in secret.parents)
    around = [path for path in above if any(within(path, one) for one in _LISTED)]
    named = tuple(secret for secret in secrets if within(secret, folder))
    closed = os.access(folder / "shadow", os.R_OK)
    if not closed and not named:
        return [folder], tuple(around)
    files: list[Path] = []
    listable = [folder, *around]
    for entry in _entries(folder):
        if closed and entry.name in _ETC_SECRETS:
            continue
        if closed and entry.name in ("ssl", "ssh", "pki"):
            listable.append(entry)
            files += [inner for inner in _entries(entry) if not _is_private(inner)]
        else:
            if entry not in named and overlaps_any(entry, named):
                listable.append(entry)
            files += without(entry, named)
    return files, tuple(listable)


def _is_private(path: Path) -> bool:
    return path.name in ("private", "tls") or path.name.endswith("_key")


def _entries(folder: Path) -> list[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return []
    # A symbolic link grants what it points to, and that has its own rule or none.
    return [entry for entry in entries if not stat.S_ISLNK(entry.lstat().st_mode)]
