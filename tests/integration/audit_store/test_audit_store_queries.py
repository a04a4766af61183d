"""Queries of the audit log: what they select, in which order, and by which index."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.db import connection

from rootbound_backend.apps.local_access.audit import queries
from rootbound_backend.apps.local_access.audit.globs import glob_prefix, glob_regex
from rootbound_backend.apps.local_access.audit.queries import (
    AuditFilter,
    audit_entries,
    in_order,
)
from rootbound_backend.apps.local_access.audit.serializers import AuditFilterSerializer
from tests.integration.audit_store.audit_support import (
    START,
    TABLE,
    chained,
    make_run,
    records,
    store,
    stored_run,
)
from tests.integration.backend.backend_support import client_for, make_project, make_task

pytestmark = pytest.mark.django_db

LOGS = "/api/audit/logs/"


def seqs(client, **query):
    answer = client.get(LOGS, query)
    assert answer.status_code == 200, answer.json()
    return [one["seq"] for one in answer.json()["results"]]


@pytest.fixture
def mixed(user):
    """One run with a bit of everything, each entry told apart by its number."""
    facts = [
        {"path": "/srv/a/x.py", "operation": "READ", "source": "tool", "detail": {}},
        {"path": "/srv/a/b/x.py", "operation": "WRITE"},
        {"path": "/srv/a/b/c/y.txt", "operation": "WRITE", "result": "DENIED"},
        {"path": "/srv/%_\\/z.py", "operation": "DELETE"},
        {"path": "/etc/passwd", "operation": "READ", "result": "DENIED",
         "detail": {"program": "/usr/bin/curl"}},
        {"path": "/srv/[x]/new\nline.py", "operation": "WRITE"},
    ]  # fmt: skip
    some = [
        next(records(1, start=START + timedelta(minutes=index), **fact))
        for index, fact in enumerate(facts)
    ]
    run = make_run(user)
    store(run, chained(some))
    return run


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, [6, 5, 4, 3, 2, 1]),
        ({"operation": "WRITE"}, [6, 3, 2]),
        ({"result": "DENIED"}, [5, 3]),
        ({"result": "DENIED", "operation": "READ"}, [5]),
        ({"source": "tool"}, [1]),
        ({"program": "/usr/bin/curl"}, [5]),
        ({"program": "curl"}, []),
        ({"path_prefix": "/srv/a/b"}, [3, 2]),
        ({"path_prefix": "/srv/%_\\"}, [4]),
        ({"path_prefix": "/srv/__"}, []),
        ({"glob": "*.py"}, [6, 4, 2, 1]),
        ({"glob": "/srv/a/*.py"}, [1]),
        ({"glob": "/srv/a/**/*.py"}, [2, 1]),
        ({"glob": "/srv/a/**"}, [3, 2, 1]),
        ({"glob": "/srv/?/b/[!z].py"}, [2]),
        ({"glob": "/srv/[[]x]/*"}, [6]),
        ({"glob": "/srv/[a-c]/x.py"}, [1]),
        ({"glob": "/etc/passwd"}, [5]),
        ({"glob": "/srv/a/(.*"}, []),
        ({"since": "2026-01-02T03:06:05.678901Z"}, [6, 5, 4, 3]),
        ({"until": "2026-01-02T03:06:05.678901Z"}, [2, 1]),
        ({"since": "2026-01-02T04:05:06+01:00", "until": "2026-01-02T03:08:00Z"}, [4, 3]),
        ({"user": "alice", "result": "DENIED"}, [5, 3]),
    ],
)
def test_each_filter_selects(client, mixed, query, expected):
    assert seqs(client, **query) == expected
    assert seqs(client, attempt=str(mixed.pk), **query) == expected


def test_scopes(client, user):
    project = make_project(user)
    task = make_task(project)
    first, again = make_run(user, task=task), make_run(user, task=task)
    beside = make_run(user, project)
    far = stored_run(user, 2)
    for number, run in enumerate((first, again, beside), 1):
        store(run, chained(records(number, start=START + timedelta(hours=number))))
    assert seqs(client, attempt=str(first.pk)) == [1]
    assert seqs(client, run=str(again.pk)) == [2, 1]
    assert seqs(client, task=str(task.pk)) == [2, 1, 1]
    assert seqs(client, project=str(project.pk)) == [3, 2, 1, 2, 1, 1]
    assert seqs(client, project=str(project.pk), attempt=str(far.pk)) == []
    assert seqs(client, task="00000000-0000-0000-0000-000000000001") == []
    counts = client.get("/api/audit/summary/", {"task": str(task.pk)}).json()["counts"]
    assert sum(one["count"] for one in counts) == 3


def test_other_people(client, user, django_user_model):
    stored_run(user, 2)
    other = client_for("mallory")
    assert seqs(other) == []
    assert other.get(LOGS, {"user": "alice"}).status_code == 404
    staff = client_for("root")
    staff.get("/api/me/")
    django_user_model.objects.filter(username="root").update(is_staff=True)
    assert seqs(staff, user="alice") == [2, 1]
    assert seqs(staff, user=str(user.pk)) == [2, 1]
    assert staff.get(LOGS, {"user": "nobody"}).json()["errors"].keys() == {"user"}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"operaton": "READ"}, "operaton"),
        ({"operation": "CHMOD"}, "operation"),
        ({"result": "MAYBE"}, "result"),
        ({"source": "x"}, "source"),
        ({"attempt": "7"}, "attempt"),
        ({"since": "yesterday"}, "since"),
        ({"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}, "until"),
        ({"limit": "0"}, "limit"),
        ({"limit": "1001"}, "limit"),
        ({"cursor": "x"}, "cursor"),
        ({"cursor": "WzFd"}, "cursor"),
        ({"path_prefix": "/a\x00b"}, "path_prefix"),
        ({"glob": "x" * 513}, "glob"),
        ({"format": "xml"}, "format"),
    ],
)
def test_what_is_wrong_is_named(client, query, field):
    answer = client.get(LOGS, query)
    assert answer.status_code == 400
    assert answer.json()["errors"].keys() == {field}


def test_a_cursor_is_of_its_list(client, user):
    run = stored_run(user, 5)
    everywhere = client.get(LOGS, {"limit": 2}).json()["next"]
    of_run = client.get(LOGS, {"limit": 2, "attempt": str(run.pk)}).json()["next"]
    assert seqs(client, cursor=everywhere) == [3, 2, 1]
    assert seqs(client, cursor=of_run, attempt=str(run.pk)) == [3, 2, 1]
    assert client.get(LOGS, {"cursor": of_run}).status_code == 400
    assert client.get(LOGS, {"cursor": everywhere, "attempt": str(run.pk)}).status_code == 400
    assert client.get(LOGS, {"cursor": everywhere[:-1] + "_"}).status_code == 400


def test_pages_have_no_hole_and_no_double(client, user):
    """Also where many entries have one time, and while others come in."""
    stored_run(user, 30, step_s=0)
    stored_run(user, 30, step_s=0.5)
    found, cursor = [], ""
    while cursor is not None:
        page = client.get(LOGS, {"limit": 7, "cursor": cursor}).json()
        found += [(one["timestamp"], one["id"]) for one in page["results"]]
        cursor = page["next"]
        if len(found) == 7:
            stored_run(user, 3, start=START + timedelta(days=1))
    assert len(found) == 60
    assert found == sorted(set(found), reverse=True)


@pytest.fixture
def filled(user):
    """Three months of entries of many runs, statistics included, by plain SQL."""
    with connection.cursor() as cursor:
        for month in ("2026-01-01", "2026-02-01", "2026-03-01"):
            cursor.execute(
                "SELECT local_access_audit_partition(%s::timestamptz)", [month + " 00:00+00"]
            )
        cursor.execute(
            f"""
            INSERT INTO {TABLE} (run_id, seq, "timestamp", operation, result, path, source,
                                 detail, hash, attempt_id, user_id)
            SELECT md5((n / 300)::text)::uuid, n %% 300 + 1,
                   '2026-01-01T00:00Z'::timestamptz + n * interval '6 minutes',
                   (ARRAY['READ', 'WRITE', 'DELETE'])[n %% 3 + 1],
                   CASE WHEN n %% 50 = 0 THEN 'DENIED' ELSE 'ALLOWED' END,
                   '/srv/' || n / 300 || '/' || n %% 17 || '.py', 'kernel',
                   jsonb_build_object('program', '/bin/p' || n %% 400), repeat('0', 64),
                   md5((n / 300)::text)::uuid, %s
            FROM generate_series(0, 20999) AS n
            """,
            [user.pk],
        )
        cursor.execute(
            "INSERT INTO local_access_auditwatermark "
            "(run_id, user_id, last_seq, last_hash, first_at, last_at, seal) "
            f"SELECT run_id, %s, max(seq), repeat('0', 64), min(\"timestamp\"), "
            f"max(\"timestamp\"), '' FROM {TABLE} GROUP BY run_id",
            [user.pk],
        )
        cursor.execute(f"ANALYZE {TABLE}")
    return user


RUN = "cfcd2084-95d5-65ef-66e7-dff9f98764da"  # md5 of "0"


INDEXES = [
    ({}, "user_id_timestamp_id_idx"),
    ({"operation": "DELETE"}, "user_id_timestamp_id_idx"),
    ({"result": "DENIED"}, "user_id_timestamp_id_idx1"),
    ({"attempt": RUN}, "run_id_seq_timestamp_key"),
    ({"attempt": RUN, "result": "DENIED"}, "run_id_seq_idx"),
    ({"path_prefix": "/srv/3/"}, "user_id_path_idx"),
    ({"glob": "/srv/3/*.py"}, "user_id_path_idx"),
    ({"program": "/bin/p7"}, "user_id_expr_idx"),
    ({"since": "2026-02-03T00:00Z", "until": "2026-02-04T00:00Z"}, "user_id_timestamp_id_idx"),
]


def test_each_list_is_read_by_an_index(filled):
    for query, index in INDEXES:
        names, plan = _plan_of(filled, query)
        assert any(name.endswith(index) for name in names), (query, json.dumps(plan, indent=1))
        if "until" in query:
            assert {name[len(TABLE) + 1 :].split("_")[0] for name in names} == {"y2026m02"}


def _plan_of(user, query):
    """The indexes that a list is read by, and the whole plan."""
    checked = AuditFilterSerializer(data=query)
    assert checked.is_valid(), checked.errors
    fields = dict(checked.validated_data)
    wanted = AuditFilter(user=user, run=fields.pop("attempt", None), **fields)
    sql, parameters = in_order(audit_entries(wanted), wanted)[:101].query.sql_with_params()
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}", parameters)
        (plan,) = cursor.fetchone()[0]
    used = _nodes(plan["Plan"])
    # The planner reads empty partitions as they are; the three with entries it must not.
    assert not any(kind == "Seq Scan" and "_y2026m0" in name for kind, name in used), plan
    return [name for kind, name in used if "Index" in kind], plan


def _nodes(plan):
    """The plan's nodes, each with its index or table."""
    found = [(plan["Node Type"], plan.get("Index Name") or plan.get("Relation Name") or "")]
    for child in plan.get("Plans", []):
        found += _nodes(child)
    return found


def test_each_answer_takes_so_many_queries(client, filled, django_assert_num_queries):
    for path, query, count in [
        # The user, and the entries.
        (LOGS, {}, 2),
        (LOGS, {"attempt": RUN}, 2),
        (LOGS, {"result": "DENIED", "operation": "READ"}, 2),
        # How many there are of a path or program decides how they are read.
        (LOGS, {"path_prefix": "/srv/3/"}, 3),
        (LOGS, {"program": "/bin/p7"}, 3),
        # Which runs it has, and when they were; there is none.
        (LOGS, {"project": RUN}, 2),
        ("/api/audit/summary/", {}, 2),
        ("/api/audit/tree/", {"path": "/srv"}, 2),
        ("/api/audit/timeline/", {}, 3),
    ]:
        with django_assert_num_queries(count):
            assert client.get(path, query).status_code == 200


def test_a_rare_path_among_many_is_sorted_not_searched(filled, monkeypatch):
    def order_of(path):
        wanted = AuditFilter(user=filled, path_prefix=path)
        return str(in_order(audit_entries(wanted), wanted).query)

    assert "0:00:00) DESC" in order_of("/srv/3/")
    monkeypatch.setattr(queries, "RARE", 100)
    assert "0:00:00) DESC" not in order_of("/srv/3/")


@pytest.mark.parametrize(
    "narrowed",
    [
        {"path_prefix": "/srv/a"},
        {"glob": "**/*.py", "operation": "READ"},
        {"path_prefix": "/srv", "result": "DENIED"},
        {"program": "/nowhere"},
    ],
)
def test_counts_timeline_and_tree_are_of_the_rows_that_are_listed(client, mixed, narrowed):
    def read(what, **query):
        return client.get(f"/api/audit/{what}/", {**narrowed, **query}).json()

    listed = len(read("logs", limit=1000)["results"])
    assert sum(one["count"] for one in read("summary")["counts"]) == listed
    buckets = read("timeline", bucket=60)["buckets"]
    assert sum(one["allowed"] + one["denied"] for one in buckets) == listed
    assert sum(one["total"] for one in read("tree", path="/")["children"]) == listed


def test_the_tree_counts_folders_with_what_they_hold(client, mixed):
    def tree(path, **query):
        return client.get("/api/audit/tree/", {"path": path, **query}).json()

    top = tree("/")
    assert [(one["path"], one["total"], one["denied"]) for one in top["children"]] == [
        ("/srv", 5, 1),
        ("/etc", 1, 1),
    ]
    below = {one["name"]: one for one in tree("/srv/a/")["children"]}
    assert below["b"] == {
        "name": "b", "path": "/srv/a/b", "is_folder": True, "read": 0, "write": 2, "delete": 0,
        "denied": 1, "total": 2,
    }  # fmt: skip
    assert (below["x.py"]["is_folder"], below["x.py"]["read"]) == (False, 1)
    assert tree("/srv/a", result="DENIED")["children"][0]["total"] == 1
    assert tree("/nowhere") == {"path": "/nowhere", "children": [], "truncated": False}
    assert client.get("/api/audit/tree/", {"path": "srv"}).status_code == 400


def test_the_timeline_counts_by_time(client, mixed):
    def timeline(**query):
        return client.get("/api/audit/timeline/", query)

    whole = timeline(bucket=60).json()
    assert whole["bucket_s"] == 60
    assert [(one["allowed"], one["denied"]) for one in whole["buckets"]] == [
        (1, 0), (1, 0), (0, 1), (1, 0), (0, 1), (1, 0),
    ]  # fmt: skip
    assert whole["buckets"][0]["timestamp"] == "2026-01-02T03:04:00Z"
    assert timeline(attempt=str(mixed.pk)).json()["bucket_s"] == 1
    assert timeline(result="DENIED", bucket=3600).json()["buckets"][0]["denied"] == 2
    assert timeline(bucket=0).json()["errors"].keys() == {"bucket"}
    store(mixed, chained(
        records(1, start=START + timedelta(days=40)), seq=7,
        prev=client.get(LOGS, {"limit": 1}).json()["results"][0]["hash"],
    ))  # fmt: skip
    assert timeline(bucket=1).json()["errors"].keys() == {"bucket"}
    assert len(timeline().json()["buckets"]) == 2


@pytest.mark.parametrize(
    ("pattern", "prefix", "regex"),
    [
        ("/a/b", "/a/b", r"^(?:\/a\/b)$"),
        ("/a/*.py", "/a/", r"^(?:\/a\/[^/]*\.py)$"),
        ("*.py", "", r"^(?:/(?:.*/)?[^/]*\.py)$"),
        ("/a/**/**/b", "/a/", r"^(?:\/a/(?:.*/)?b)$"),
        ("/a[", "/a", r"^(?:\/a\[)$"),
    ],
)
def test_globs(pattern, prefix, regex):
    assert (glob_prefix(pattern), glob_regex(pattern)) == (prefix, regex)
