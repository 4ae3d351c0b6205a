"""A stand-in for Clerk on this machine: Backend API, session tokens, signed webhooks. Shares no code with the rest."""
