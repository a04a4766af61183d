"""Drop old partitions of the audit log, leaving a record of each."""

from __future__ import annotations

import getpass
import json
from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from rootbound_backend.apps.local_access.audit.retention import (
    RetentionRefused,
    Rule,
    drop_partition,
    partitions_to_drop,
)
from rootbound_backend.apps.local_access.audit.serializers import AuditRetentionSerializer


class Command(BaseCommand):
    """Implements ``audit_retain``."""

    help = "Drop the audit log's partitions that a rule lets go; a sealed record of each stays."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--older-than-days", type=int, metavar="N")
        parser.add_argument("--keep-bytes", type=int, metavar="N")
        parser.add_argument("--dry-run", action="store_true")
        parser.add_argument("--force", action="store_true", help="also where chains do not hold")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run it."""
        days, size = options["older_than_days"], options["keep_bytes"]
        if days is None and size is None:
            raise CommandError("Say what may go: --older-than-days N or --keep-bytes N.")
        if (days is not None and days < 1) or (size is not None and size < 0):
            raise CommandError("Days begin at 1 and bytes at 0.")
        rule = Rule(older_than=None if days is None else timedelta(days=days), keep_bytes=size)
        done: list[dict[str, Any]] = []
        try:
            chosen = partitions_to_drop(rule, now=timezone.now())
            for partition, reason in chosen:
                if options["dry_run"]:
                    plan = {"partition": partition.name, "bytes": partition.bytes}
                    done.append({**plan, "reason": reason})
                    continue
                record = drop_partition(
                    partition,
                    reason=reason,
                    performed_by=getpass.getuser(),
                    force=options["force"],
                    progress=lambda text: self.stderr.write(text),
                )
                done.append(dict(AuditRetentionSerializer(record).data))
        except RetentionRefused as error:
            raise CommandError(str(error)) from error
        self._report(done, options)

    def _report(self, done: list[dict[str, Any]], options: dict[str, Any]) -> None:
        if options["json"]:
            answer = {"dry_run": options["dry_run"], "dropped": done}
            self.stdout.write(json.dumps(answer, default=str, indent=2))
            return
        if not done:
            self.stdout.write("Nothing is old or large enough; nothing was dropped.")
        verb = "Would drop" if options["dry_run"] else "Dropped"
        for one in done:
            rows = f"{one['rows']:,} entries, " if "rows" in one else ""
            line = f"{verb} {one['partition']}: {rows}{one['bytes']:,} bytes ({one['reason']})."
            self.stdout.write(line)
