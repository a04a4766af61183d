"""Endpoints of confined kernels."""

from __future__ import annotations

import uuid
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from rootbound_backend.apps.local_access.kernel_models import KernelSession
from rootbound_backend.apps.local_access.kernels import end_kernel, start_kernel
from rootbound_backend.authentication import IngestAuthentication, IsIngest
from rootbound_backend.fields import StrictSerializer
from rootbound_backend.problems import not_found
from rootbound_backend.tokens import IngestGrant
from rootbound_backend.views import UserView, current_user, paginate, validated

__all__ = ["KernelEndedView", "KernelView", "KernelsView"]

MAX_ENV = 256


class KernelSerializer(serializers.ModelSerializer[KernelSession]):
    """One confined kernel."""

    project = serializers.UUIDField(source="project_id", allow_null=True)

    class Meta:
        """Options."""

        model = KernelSession
        fields = [
            "id", "project", "kernel_id", "kernel_name", "cwd", "network", "is_batch",
            "created_at", "ended_at", "exit_code",
        ]  # fmt: skip


class KernelListSerializer(serializers.Serializer[Any]):
    """A page of kernels."""

    results = KernelSerializer(many=True)
    next = serializers.CharField(allow_null=True)


class KernelInputSerializer(StrictSerializer):
    """What a provisioner asks for."""

    kernel_id = serializers.UUIDField(help_text="Jupyter's id of the kernel.")
    kernel_name = serializers.CharField(max_length=255)
    argv = serializers.ListField(
        child=serializers.CharField(max_length=4096, trim_whitespace=False),
        min_length=1,
        max_length=256,
        help_text="{connection_file} stands for the kernel's connection file.",
    )
    env = serializers.DictField(
        child=serializers.CharField(max_length=32768, allow_blank=True, trim_whitespace=False),
        required=False,
        help_text="Variables of the kernel; no secrets, whatever runs in it can read them.",
    )
    cwd = serializers.CharField(
        max_length=4096, required=False, allow_blank=True, trim_whitespace=False
    )
    network = serializers.BooleanField(required=False)
    accept_tier = serializers.ChoiceField(choices=["A", "B", "C"], required=False, allow_blank=True)
    batch = serializers.RegexField(r"^[0-9a-f]{0,64}$", required=False, allow_blank=True)

    def validate_env(self, value: dict[str, str]) -> dict[str, str]:
        """Refuse what is no environment."""
        if len(value) > MAX_ENV or any("=" in name or not name for name in value):
            raise serializers.ValidationError(
                f"At most {MAX_ENV} variables, with names without an equals sign."
            )
        return value


class KernelStartSerializer(KernelSerializer):
    """A kernel that is ready, with the socket to hold it by."""

    control = serializers.CharField(help_text="Unix socket that the provisioner connects to.")

    class Meta(KernelSerializer.Meta):
        """Options."""

        fields = [*KernelSerializer.Meta.fields, "control"]


class KernelEndSerializer(StrictSerializer):
    """How a kernel ended."""

    exit_code = serializers.IntegerField(allow_null=True)


class KernelsView(UserView):
    """The user's confined kernels."""

    @extend_schema(operation_id="kernels_list", responses=KernelListSerializer)
    def get(self, request: Request) -> Response:
        """List kernels, newest first."""
        rows = KernelSession.objects.filter(user=current_user(request))
        page, following = paginate(request, rows, by=("created_at", "id"), newest_first=True)
        return Response({"results": KernelSerializer(page, many=True).data, "next": following})

    @extend_schema(request=KernelInputSerializer, responses={201: KernelStartSerializer})
    def post(self, request: Request) -> Response:
        """Make a confined kernel ready; it starts when its provisioner connects."""
        fields = validated(KernelInputSerializer, request.data)
        env = fields.pop("env", {})
        session, control = start_kernel(user=current_user(request), env=env, **fields)
        return Response({**KernelSerializer(session).data, "control": control}, status=201)


class KernelView(UserView):
    """One confined kernel."""

    @extend_schema(responses=KernelSerializer)
    def get(self, request: Request, session_id: uuid.UUID) -> Response:
        """Return the kernel."""
        mine = KernelSession.objects.filter(user=current_user(request), pk=session_id)
        session = mine.first()
        if session is None:
            raise not_found("kernel")
        return Response(KernelSerializer(session).data)


class KernelEndedView(APIView):
    """The LDA's report on a kernel's end."""

    authentication_classes = [IngestAuthentication]
    permission_classes = [IsIngest]

    @extend_schema(request=KernelEndSerializer, responses={204: None})
    def post(self, request: Request, session_id: uuid.UUID) -> Response:
        """Note the end."""
        grant = request.auth
        if not isinstance(grant, IngestGrant):
            raise TypeError("This view let a request without an ingest token in.")
        exit_code = validated(KernelEndSerializer, request.data)["exit_code"]
        end_kernel(grant=grant, session_id=session_id, exit_code=exit_code)
        return Response(status=204)
