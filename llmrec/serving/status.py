"""`/health`, `/ready` and `/metrics`: for those who keep the server running. They never wait for the engine."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from llmrec.serving.problems import unavailable
from llmrec.serving.schemas import Status
from llmrec.serving.service import Service


def router(service: Service) -> APIRouter:
    """The routes that are open to everybody."""
    routes = APIRouter(tags=["status"])

    @routes.get("/health")
    async def health() -> Status:
        """Whether the process should live on; 503 once its engine is dead."""
        if not service.is_alive():
            raise unavailable("The engine has died.")
        return Status(status="ok")

    @routes.get("/ready")
    async def ready() -> Status:
        """Whether to send requests here; 503 while it stops, and once its engine is dead."""
        if not service.is_ready:
            raise unavailable("The server is stopping." if service.is_alive() else "The engine has died.")
        return Status(status="ready")

    return routes


def metrics_router(service: Service) -> APIRouter:
    """What Prometheus reads."""
    routes = APIRouter(tags=["status"])

    @routes.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """Prometheus' text format."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return routes
