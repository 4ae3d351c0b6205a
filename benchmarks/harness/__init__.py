"""What every benchmark stands on: a Clerk instance, a PostgreSQL of its own, servers, a load generator, tables."""
