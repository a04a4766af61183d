"""Endpoints of machines whose LDA connects outwards."""

from __future__ import annotations

import uuid

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from rootbound_backend.apps.local_access.machine_models import Machine
from rootbound_backend.apps.local_access.machine_selectors import get_machine, machines_of
from rootbound_backend.apps.local_access.machine_serializers import (
    MachineInputSerializer,
    MachineListSerializer,
    MachineSerializer,
    MachineWithTokenSerializer,
)
from rootbound_backend.apps.local_access.machines import (
    add_machine,
    remove_machine,
    renew_machine_token,
    update_machine,
)
from rootbound_backend.views import UserView, current_user, paginate, validated

__all__ = ["MachineTokenView", "MachineView", "MachinesView"]


def _with_token(machine: Machine, token: str, status: int) -> Response:
    shown = {**MachineSerializer(machine).data, "token": token}
    return Response(shown, status=status)


class MachinesView(UserView):
    """The user's machines."""

    @extend_schema(operation_id="machines_list", responses=MachineListSerializer)
    def get(self, request: Request) -> Response:
        """List machines in the order in which they were added."""
        rows = machines_of(current_user(request).pk)
        page, following = paginate(request, rows, by=("created_at", "id"), newest_first=False)
        return Response({"results": MachineSerializer(page, many=True).data, "next": following})

    @extend_schema(request=MachineInputSerializer, responses={201: MachineWithTokenSerializer})
    def post(self, request: Request) -> Response:
        """Add a machine; the answer holds the token for its LDA, this once."""
        fields = validated(MachineInputSerializer, request.data)
        return _with_token(*add_machine(user=current_user(request), **fields), status=201)


class MachineView(UserView):
    """One machine."""

    @extend_schema(responses=MachineSerializer)
    def get(self, request: Request, machine_id: uuid.UUID) -> Response:
        """Return the machine."""
        machine = get_machine(user=current_user(request), machine_id=machine_id)
        return Response(MachineSerializer(machine).data)

    @extend_schema(request=MachineInputSerializer, responses=MachineSerializer)
    def patch(self, request: Request, machine_id: uuid.UUID) -> Response:
        """Change name or owned paths."""
        get_machine(user=current_user(request), machine_id=machine_id)
        fields = validated(MachineInputSerializer, request.data, partial=True)
        machine = update_machine(user=current_user(request), machine_id=machine_id, fields=fields)
        return Response(MachineSerializer(machine).data)

    @extend_schema(responses={204: None})
    def delete(self, request: Request, machine_id: uuid.UUID) -> Response:
        """Remove the machine; what runs on it ends as LDA_LOST."""
        remove_machine(user=current_user(request), machine_id=machine_id)
        return Response(status=204)


class MachineTokenView(UserView):
    """A machine's token."""

    @extend_schema(request=None, responses=MachineWithTokenSerializer)
    def post(self, request: Request, machine_id: uuid.UUID) -> Response:
        """Replace the token; the one before is worth nothing from now on."""
        renewed = renew_machine_token(user=current_user(request), machine_id=machine_id)
        return _with_token(*renewed, status=200)
