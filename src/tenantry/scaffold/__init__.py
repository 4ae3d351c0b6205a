"""Adds Tenantry to a project as files that the project owns: reads its facts, plans, shows, writes, checks."""
