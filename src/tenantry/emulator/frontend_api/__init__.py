"""Clerk's Frontend API: what clerk-js and Clerk's components call for the person in the browser."""

from tenantry.emulator.frontend_api.routes import create_app as create_app
