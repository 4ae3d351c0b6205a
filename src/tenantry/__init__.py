"""Tenantry keeps an app's Clerk organizations in its own PostgreSQL, and every query inside one of them."""

__version__ = "0.1.0"
