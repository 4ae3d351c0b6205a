"""Everything an app needs on a developer's machine: PostgreSQL, the Clerk emulator and the app, in one process."""
