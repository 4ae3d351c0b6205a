"""Clerk's Backend API over the store: one module a noun, one table of routes."""

from tenantry.emulator.backend_api.routes import create_app

__all__ = ["create_app"]
