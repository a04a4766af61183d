"""JupyterLab's own scheduler runs the batch notebook, where somebody has installed it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import nbformat

from tests.support.environment import wait_for
from tests.support.lab import TOKEN, Lab, running_lab
from tests.support.live import LiveStack, fix_calculator

NOTEBOOK = Path(__file__).resolve().parents[3] / "notebooks" / "batch.ipynb"
# Beside what the tests have anyway; in a folder of its own, so that no other test's Lab has it.
PACKAGES = ("jupyter-scheduler>=2.12,<3", "croniter>=1.4,<2", "fsspec", "pytz")


def install(folder: Path, index: dict[str, str]) -> Path:
    """Install the scheduler into a folder and return it."""
    subprocess.run(
        [sys.executable, "-m", "uv", "pip", "install", "-q", "--no-deps", "--target", str(folder),
         "--python", sys.executable, *PACKAGES],
        env={**os.environ, **index}, check=True,
    )  # fmt: skip
    return folder


def ask(lab: Lab, method: str, path: str, body: object = None) -> Any:
    headers = {"Authorization": f"token {TOKEN}"}
    answer = httpx.request(
        method, f"{lab.url}scheduler/{path}", headers=headers, json=body, timeout=60
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def create_job(lab: Lab, **parameters: str) -> str:
    """Create a job as the form of "Create job" does: every parameter is a Python expression."""
    [environment] = ask(lab, "GET", "runtime_environments")
    asked = {
        "name": "Nightly batch", "input_uri": "batch.ipynb", "output_formats": ["ipynb"],
        "runtime_environment_name": environment["name"], "runtime_environment_parameters": {},
        "parameters": parameters,
    }  # fmt: skip
    return str(ask(lab, "POST", "jobs", asked)["job_id"])


def ended(lab: Lab, job: str) -> Any:
    """Return a job that is over; before it begins its status is STOPPED."""

    def look() -> Any:
        found = ask(lab, "GET", f"jobs/{job}")
        return found if found["status"] in {"COMPLETED", "FAILED"} else None

    return wait_for(look, within_s=180, what="the job's end")


def test_create_job_runs_the_batch_notebook(
    live: LiveStack, index: dict[str, str], tmp_path: Path
) -> None:
    project = live.make_project("jobs")
    task = live.make_task(project, "Repair addition")
    live.replay.turns = fix_calculator()
    packages, config = install(tmp_path / "packages", index), tmp_path / "etc"
    (config / "jupyter_server_config.d").mkdir(parents=True)
    enabled = {"ServerApp": {"jpserver_extensions": {"jupyter_scheduler": True}}}
    (config / "jupyter_server_config.d" / "scheduler.json").write_text(json.dumps(enabled))
    with running_lab(
        live.home, tmp_path / "lab", PYTHONPATH=str(packages), JUPYTER_CONFIG_PATH=str(config)
    ) as lab:
        shutil.copy(NOTEBOOK, lab.files)
        given = {"project": repr(project["id"]), "home": repr(str(live.home))}
        given["max_parallel"] = "2"

        refused = ended(lab, create_job(lab, **given, approve="'no'"))
        assert refused["status"] == "FAILED"
        assert "approve must be True or False, not 'no'." in refused["status_message"]

        done = ended(lab, create_job(lab, **given, budget="5", approve="False"))
        assert done["status"] == "COMPLETED", done
        assert live.call("GET", f"/api/tasks/{task['id']}/")["status"] == "REVIEW", "not merged"

    # Where the scheduler keeps what a job made until somebody asks for it.
    staged = tmp_path / "lab" / "data" / "scheduler_staging_area" / done["job_id"]
    [report] = staged.glob("batch-*.ipynb")
    said = json.dumps(nbformat.read(report, as_version=4))
    assert "Repair addition" in said and "Everything was done." in said
    assert live.token not in said
