"""Who is asking, and the tenant that every query is in. Reads the environment: see .env.example."""

from tenantry.fastapi import Tenantry

tenancy = Tenantry.from_env()
