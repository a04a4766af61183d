"""A confined kernel of somebody who never ran a Jupyter server."""

from __future__ import annotations

from pathlib import Path

import pytest
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager

from rootbound_server_ext.provisioner import RootedProvisioner


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
