"""Confined kernels from this side: the kernel specification, and the manager of batches.

A confined kernel runs in the sandbox of agents; the provisioner ``rootbound-provisioner`` of
``rootbound[server]`` starts it.
"""

from __future__ import annotations

import copy
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import RootboundError

if TYPE_CHECKING:
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager

__all__ = ["PROVISIONER", "install", "installed", "manager_class", "remove"]

PROVISIONER = "rootbound-provisioner"
DEFAULT_NAME = "python3"
DEFAULT_TITLE = "Python 3"


def is_rooted(metadata: dict[str, Any]) -> bool:
    """Return whether a kernel specification names our provisioner."""
    return bool(metadata.get("kernel_provisioner", {}).get("provisioner_name") == PROVISIONER)


def _rooted(metadata: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    named = {"provisioner_name": PROVISIONER, "config": config}
    return {**metadata, "kernel_provisioner": named}


def _manager() -> KernelSpecManager:
    try:
        from jupyter_client.kernelspec import KernelSpecManager
    except ModuleNotFoundError as error:
        raise RootboundError(
            'Confined kernels need Jupyter: run `pip install "rootbound[server]"`.'
        ) from error
    return KernelSpecManager()


def installed() -> dict[str, dict[str, Any]]:
    """Return the confined kernels that Jupyter offers: folder and specification by name."""
    found = _manager().get_all_specs()
    return {
        name: one for name, one in found.items() if is_rooted(one["spec"].get("metadata") or {})
    }


def install(
    *,
    base: str = "",
    name: str = "",
    title: str = "",
    network: bool = False,
    accept_tier: str = "",
    prefix: str | None = None,
    user: bool = False,
) -> Path:
    """Offer a confined kernel in Jupyter.

    Parameters
    ----------
    base : str, default ""
        The kernel to confine, by its name; "" for this Python.
    name : str, default ""
        Of the new kernel; by default that of `base` with ``-rooted`` (``-rooted-network``).
    title : str, default ""
        Shown in the launcher; by default that of `base` with ``(rooted)`` (``(rooted, network)``).
    network : bool, default False
        Whether it may reach the network.
    accept_tier : str, default ""
        The lowest tier of enforcement that will do; by default what attempts need.
    prefix : str or None, default None
        Where to install it; by default the environment if it is a virtual one, else the user's
        Jupyter folder.
    user : bool, default False
        Install it in the user's Jupyter folder all the same.

    Returns
    -------
    Path
        The folder of the specification.

    Raises
    ------
    RootboundError
        If there is no kernel `base`, or it cannot be written there.
    """
    manager = _manager()
    spec, resources = _spec_of(manager, base)
    config: dict[str, Any] = {}
    if network:
        config["network"] = True
    if accept_tier:
        config["accept_tier"] = accept_tier
    # Beside the one without the network, not in its place.
    kind = "rooted, network" if network else "rooted"
    document = {
        **spec,
        "display_name": title or f"{spec['display_name'] if base else DEFAULT_TITLE} ({kind})",
        "metadata": _rooted(spec.get("metadata") or {}, config),
    }
    if prefix is None and not user and sys.prefix != sys.base_prefix:
        prefix = sys.prefix
    chosen = name or f"{base or DEFAULT_NAME}-{kind.replace(', ', '-')}"
    with tempfile.TemporaryDirectory() as folder:
        if resources is not None:
            shutil.copytree(resources, folder, dirs_exist_ok=True)
        (Path(folder) / "kernel.json").write_text(json.dumps(document, indent=1))
        try:
            where = manager.install_kernel_spec(folder, chosen, user=prefix is None, prefix=prefix)
        except (OSError, ValueError) as error:
            raise RootboundError(f"The kernel {chosen!r} cannot be installed: {error}.") from error
    return Path(where)


def _spec_of(manager: KernelSpecManager, base: str) -> tuple[dict[str, Any], Path | None]:
    """Return the specification to build on, and the folder with its pictures."""
    from jupyter_client.kernelspec import NoSuchKernel

    if not base:
        from ipykernel.kernelspec import RESOURCES, get_kernel_dict

        # With the interpreter's full path: the name alone could mean another one elsewhere.
        return {**get_kernel_dict(), "language": "python"}, Path(RESOURCES)
    try:
        spec = manager.get_kernel_spec(base)
    except NoSuchKernel as error:
        known = ", ".join(sorted(manager.find_kernel_specs())) or "none"
        raise RootboundError(f"There is no kernel {base!r}; there are: {known}.") from error
    return spec.to_dict(), Path(spec.resource_dir)


def remove(name: str) -> None:
    """Take a confined kernel away from Jupyter's list.

    Raises
    ------
    RootboundError
        If there is none of that name.
    """
    known = installed()
    if name not in known:
        names = ", ".join(sorted(known)) or "none"
        raise RootboundError(f"{name!r} is no confined kernel; there are: {names}.")
    _manager().remove_kernel_spec(name)


def manager_class(batch: str = "", *, network: bool = False) -> type[Any]:
    """Return a kernel manager that confines whatever kernel it is told to start.

    Parameters
    ----------
    batch : str, default ""
        Names the folder that a batch keeps between its kernels, in hexadecimal.
    network : bool, default False
        Whether the kernel may reach the network; one whose own specification says so may.
    """
    from jupyter_client.manager import AsyncKernelManager

    class RootedKernelManager(AsyncKernelManager):
        """Starts the kernel of a notebook in the sandbox."""

        @property
        def kernel_spec(self) -> KernelSpec | None:
            """The notebook's kernel, with our provisioner."""
            spec = super().kernel_spec
            if spec is None:
                return None
            known = spec.metadata.get("kernel_provisioner", {})
            config = known.get("config", {}) if is_rooted(spec.metadata) else {}
            confined = copy.copy(spec)
            config = {**config, "batch": batch, **({"network": True} if network else {})}
            confined.metadata = _rooted(spec.metadata, config)
            return confined

    return RootedKernelManager
