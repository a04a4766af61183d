"""A confined kernel of somebody who never ran a Jupyter server."""

from __future__ import annotations

from pathlib import Path

import pytest
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager

from rootbound_server_ext.provisioner import KernelRefusedError, RootedProvisioner, _Life


@pytest.mark.asyncio
async def test_jupyters_runtime_folder_is_made_for_the_first_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = tmp_path / "share/jupyter/runtime"
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(runtime))
    spec = KernelSpec(argv=["python3", "-m", "ipykernel", "-f", "{connection_file}"])
    manager = AsyncKernelManager()
    manager._kernel_spec = spec
    provisioner = RootedProvisioner(kernel_id="k1", kernel_spec=spec, parent=manager)
    asked = await provisioner.pre_launch()
    assert Path(manager.connection_file).parent == runtime
    assert runtime.stat().st_mode & 0o777 == 0o700
    assert list(runtime.iterdir()) == []
    assert asked["cmd"][-1] == "{connection_file}"


def test_a_kernel_on_another_machine_is_told_from_an_agent_that_ended(tmp_path: Path) -> None:
    control = str(tmp_path / "control.sock")
    with pytest.raises(KernelRefusedError, match=r"owns the notebook's folder is not this one"):
        _Life(control, far=True)
    with pytest.raises(KernelRefusedError, match=r"ended; try again"):
        _Life(control)
