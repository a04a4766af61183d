"""Who sends a request: a person (Jupyter's identity header or a bearer token) or a run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from rootbound_backend.apps.local_access.kernel_scope import KernelGrant, refusal_of_kernel
from rootbound_backend.apps.users.models import User
from rootbound_backend.apps.users.services import ensure_user
from rootbound_backend.problems import Problem
from rootbound_backend.tokens import (
    IngestGrant,
    TokenRefusedError,
    verify_api_token,
    verify_identity,
    verify_ingest_token,
)

if TYPE_CHECKING:
    from rest_framework.views import APIView

__all__ = [
    "BearerAuthentication",
    "Closed",
    "IdentityAuthentication",
    "IngestAuthentication",
    "IsIngest",
    "user_for_websocket",
]

IDENTITY_HEADER = "X-Rootbound-Identity"
WWW_AUTHENTICATE = 'Bearer realm="rootbound"'


def _active(user: User) -> User:
    if not user.is_active:
        raise exceptions.AuthenticationFailed("This user is disabled on this installation.")
    return user


def _bearer(request: Request) -> str | None:
    parts = get_authorization_header(request).split()
    if not parts or parts[0].lower() != b"bearer":
        return None
    if len(parts) != 2:
        raise exceptions.AuthenticationFailed("The Authorization header must be `Bearer <token>`.")
    return parts[1].decode("latin-1")


class IdentityAuthentication(BaseAuthentication):
    """The header that the Jupyter host signs for each request."""

    def authenticate(self, request: Request) -> tuple[User, None] | None:
        """Return the user, or None when there is no such header."""
        token = request.headers.get(IDENTITY_HEADER)
        if token is None:
            return None
        try:
            username, name = verify_identity(token, method=request.method or "", path=request.path)
        except TokenRefusedError as error:
            raise exceptions.AuthenticationFailed(str(error)) from error
        return _active(ensure_user(username=username, name=name)), None

    def authenticate_header(self, request: Request) -> str:
        """Return the challenge of a 401."""
        return WWW_AUTHENTICATE


class BearerAuthentication(BaseAuthentication):
    """A headless token of `rootbound token`, or that of a confined kernel."""

    def authenticate(self, request: Request) -> tuple[User, KernelGrant | None] | None:
        """Return the user, or None when there is no bearer token."""
        token = _bearer(request)
        if token is None:
            return None
        try:
            username, session_id = verify_api_token(token)
            grant = None if session_id is None else KernelGrant.of(session_id)
        except TokenRefusedError as error:
            raise exceptions.AuthenticationFailed(str(error)) from error
        if grant is not None:
            match = request.resolver_match
            view = match.url_name if match else None
            refusal = refusal_of_kernel(grant, request.method or "", view)
            if refusal is not None:
                raise exceptions.PermissionDenied(refusal)
        return _active(ensure_user(username=username)), grant

    def authenticate_header(self, request: Request) -> str:
        """Return the challenge of a 401."""
        return WWW_AUTHENTICATE


class IngestAuthentication(BaseAuthentication):
    """The token that the LDA got for one run; it identifies the run, not a person."""

    def authenticate(self, request: Request) -> tuple[None, IngestGrant] | None:
        """Return the grant as ``request.auth``, or None when there is no bearer token."""
        token = _bearer(request)
        if token is None:
            return None
        try:
            return None, verify_ingest_token(token)
        except TokenRefusedError as error:
            raise exceptions.AuthenticationFailed(str(error)) from error

    def authenticate_header(self, request: Request) -> str:
        """Return the challenge of a 401."""
        return WWW_AUTHENTICATE


class Closed(BasePermission):
    """Lets nobody in; the default for views that forgot to say who may."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Return False."""
        return False


class IsIngest(BasePermission):
    """Lets in requests that carry an ingest token; the view compares it with its run."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Return whether there is a grant."""
        return isinstance(request.auth, IngestGrant)


def user_for_websocket(headers: Iterable[tuple[bytes, bytes]], *, path: str) -> User | None:
    """Return the user of a WebSocket's opening request, or None when it proves none.

    Parameters
    ----------
    headers
        Of the ASGI scope.
    path
        The request's percent-decoded path.
    """
    found = {name.lower(): value for name, value in headers}
    identity = found.get(IDENTITY_HEADER.lower().encode())
    authorization = found.get(b"authorization", b"").split()
    try:
        if identity is not None:
            username, name = verify_identity(identity.decode("latin-1"), method="GET", path=path)
        elif len(authorization) == 2 and authorization[0].lower() == b"bearer":
            username, session_id = verify_api_token(authorization[1].decode("latin-1"))
            name = ""
            if session_id is not None:
                KernelGrant.of(session_id)
        else:
            return None
        user = ensure_user(username=username, name=name)
    except (TokenRefusedError, Problem):
        return None
    return user if user.is_active else None
