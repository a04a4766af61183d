"""What each tier of enforcement promises; the one source for the probe, the panel and the manual.

``python -m rootbound_lda.sandbox.tiers`` prints the tables of the manual; with ``--write FILE`` it
puts them between the marks in that file.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TIERS: Final = ("A", "B", "C", "D", "E", "F")
NEEDED: Final = "B"
"""The weakest tier that enforces and records everything; a project may accept a lower one."""

UNTESTED: Final = ("E",)
"""Levels that are written down and never in force."""

BEGIN: Final = "<!-- tiers: made by `python -m rootbound_lda.sandbox.tiers`, do not edit -->"
END: Final = "<!-- /tiers -->"


@dataclass(frozen=True)
class Tier:
    """One level of enforcement.

    Parameters
    ----------
    name
        ``"A"`` (everything) to ``"F"`` (no command runs).
    when
        What the machine must have.
    how
        What enforces it there.
    """

    name: str
    when: str
    how: str


@dataclass(frozen=True)
class Guarantee:
    """One promise.

    Parameters
    ----------
    name
        Short name; the probe's trials carry it where one can be tried.
    title
        What is promised, for the manual's table.
    lost
        The sentence that says so where it is not kept.
    by
        How it is kept, by tier; a tier that is left out does not keep it.
    """

    name: str
    title: str
    lost: str
    by: dict[str, str]


@dataclass(frozen=True)
class Facility:
    """A facility of a kernel and what it is for.

    Parameters
    ----------
    since
        First version that has it.
    name
        What it is.
    use
        What it enforces here, and what happens without.
    tier
        The best tier that this version and everything before it make possible.
    """

    since: str
    name: str
    use: str
    tier: str


LEVELS: Final = (
    Tier("A", "Linux 6.12 or newer: Landlock ABI 6 and seccomp user notification",
         "Landlock, seccomp, the supervisor; bubblewrap around them where it works"),
    Tier("B", "Linux 5.14 to 6.11: Landlock ABI 1 to 5 and seccomp user notification",
         "the same; the supervisor closes what the older Landlock leaves open"),
    Tier("C", "no Landlock (older kernel, or switched off), but bubblewrap works and seccomp user "
         "notification (Linux 5.14)",
         "a mount namespace that holds only what the policy names, seccomp, the supervisor"),
    Tier("D", "Landlock or bubblewrap, but no seccomp user notification, as inside some other "
         "sandboxes",
         "**not implemented**: counts as F. Landlock alone lets permissions, times, attributes and "
         "`.git` be changed, and comparing before with after would miss what was read or refused, "
         "and whatever came and went in between"),
    Tier("E", "macOS with `sandbox-exec`",
         "a Seatbelt profile is made, but **untested**: counts as F until someone has run it"),
    Tier("F", "none of these", "no command runs; the file tools stay confined by descriptors"),
)  # fmt: skip

_SUPERVISED = {"A": "supervisor", "B": "supervisor", "C": "supervisor"}

GUARANTEES: Final = (
    Guarantee(
        "write_outside", "Nothing outside the roots is created, written, renamed",
        "Commands can write outside the granted folders.",
        {"A": "Landlock + supervisor", "B": "Landlock + supervisor",
         "C": "mounts + supervisor", "E": "Seatbelt"},
    ),
    Guarantee(
        "delete_outside", "Nothing outside the roots is deleted",
        "Commands can delete files outside the granted folders.",
        {"A": "Landlock + supervisor", "B": "Landlock + supervisor",
         "C": "mounts + supervisor", "E": "Seatbelt"},
    ),
    Guarantee(
        "truncate_outside", "Nothing outside the roots is emptied",
        "Commands can empty files outside the granted folders.",
        {"A": "Landlock + supervisor", "B": "supervisor (Landlock from 6.2)",
         "C": "mounts + supervisor", "E": "Seatbelt"},
    ),
    Guarantee(
        "chmod_outside", "Permissions, owners, times and attributes outside stay",
        "Commands can change permissions outside the granted folders.",
        {**_SUPERVISED, "C": "mounts + supervisor", "E": "Seatbelt"},
    ),
    Guarantee(
        "read_outside", "Nothing but the readable paths is read",
        "Commands can read files outside the readable paths.",
        {"A": "Landlock", "B": "Landlock", "C": "mounts", "E": "Seatbelt"},
    ),
    Guarantee(
        "write_git", "`.git` is not changed, at any depth",
        "Commands can change git's own files in nested repositories.",
        {**_SUPERVISED, "E": "Seatbelt"},
    ),
    Guarantee(
        "signal_outside", "No other program is signalled or traced",
        "Commands can send signals to your other programs.",
        {"A": "Landlock + seccomp", "B": "supervisor + seccomp",
         "C": "supervisor + seccomp", "E": "Seatbelt"},
    ),
    Guarantee(
        "socket", "No network unless the project has it on; never loopback",
        "Commands can use the network although it is off.",
        {"A": "seccomp + supervisor", "B": "seccomp + supervisor",
         "C": "seccomp + supervisor", "E": "Seatbelt"},
    ),
    Guarantee(
        "unix_socket", "No local service is reached over a socket",
        "Commands can reach local services over unix sockets.",
        {"A": "seccomp", "B": "seccomp", "C": "seccomp", "E": "Seatbelt"},
    ),
    Guarantee(
        "recorded", "Every change and every refusal is recorded as it happens",
        "Operations of commands are not recorded as they happen: what they changed is found by "
        "comparing before and after, and refusals and reads are not on record (audit=partial).",
        dict(_SUPERVISED),
    ),
    Guarantee(
        "two_layers", "Two layers: a fault in the supervisor alone opens nothing",
        "There is no Landlock: what may be read, written and deleted rests on the mount namespace "
        "and the supervisor alone.",
        {"A": "Landlock", "B": "Landlock"},
    ),
    Guarantee(
        "no_survivors", "Nothing of a command outlives it, nor the LDA's death",
        "Processes that leave their session can outlive a command.",
        {"A": "supervisor", "B": "supervisor", "C": "supervisor"},
    ),
)  # fmt: skip

FACILITIES: Final = (
    Facility("3.8", "user namespaces", "bubblewrap without privileges (C; a further wall in A, B)",
             "F"),
    Facility("5.6", "`openat2`", "file tools; without it they follow no symbolic link", "F"),
    Facility("5.13", "Landlock ABI 1", "files, folders, execution", "F"),
    Facility("5.14", "seccomp user notification that hands over descriptors (`ADDFD_SEND`)",
             "the supervisor, and with it the record", "B; C without Landlock"),
    Facility("5.19", "`WAIT_KILLABLE_RECV`, Landlock ABI 2",
             "no change is repeated by a signal; renames between folders", "B"),
    Facility("6.2", "Landlock ABI 3", "truncation (before: the supervisor alone)", "B"),
    Facility("6.7", "Landlock ABI 4", "TCP (before: seccomp alone)", "B"),
    Facility("6.10", "Landlock ABI 5", "device control (before: seccomp alone)", "B"),
    Facility("6.12", "Landlock ABI 6", "signals, abstract sockets (before: the supervisor)", "A"),
)  # fmt: skip


def lost(tier: str) -> list[str]:
    """Return one sentence for each guarantee that a tier does not keep."""
    return [guarantee.lost for guarantee in GUARANTEES if tier not in guarantee.by]


def kept(tier: str) -> list[dict[str, str | None]]:
    """Return each guarantee's title and what keeps it in a tier, None where nothing does."""
    return [{"title": one.title, "by": one.by.get(tier)} for one in GUARANTEES]


def tables() -> str:
    """Return the manual's tables, in Markdown."""
    lines = ["| tier | when | enforced by |", "|---|---|---|"]
    lines += [f"| {level.name} | {level.when} | {level.how} |" for level in LEVELS]
    shown = [name for name in TIERS if any(name in one.by for one in GUARANTEES)]
    heads = [f"{name} (untested)" if name in UNTESTED else name for name in shown]
    lines += ["", f"| guarantee | {' | '.join(heads)} |", "|---|" + "---|" * len(shown)]
    for guarantee in GUARANTEES:
        cells = [guarantee.by.get(name, "**no**") for name in shown]
        lines.append(f"| {guarantee.title} | {' | '.join(cells)} |")
    lines += ["", "| Linux | facility | what it is for here | best tier |", "|---|---|---|---|"]
    lines += [f"| {one.since} | {one.name} | {one.use} | {one.tier} |" for one in FACILITIES]
    return "\n".join(lines) + "\n"


def inserted(text: str) -> str:
    """Return a manual's text with the tables between its marks renewed.

    Raises
    ------
    ValueError
        If it has no such marks.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError("The text has no marks for the tables.")
    return f"{before}{BEGIN}\n\n{tables()}\n{END}{after}"


def main(argv: list[str] | None = None) -> int:
    """Print the tables, or write them into a manual; returns the exit code."""
    parser = argparse.ArgumentParser(prog="rootbound_lda.sandbox.tiers", description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE", help="manual to renew the tables in")
    manual = parser.parse_args(argv).write
    if manual is None:
        sys.stdout.write(tables())
    else:
        manual.write_text(inserted(manual.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
