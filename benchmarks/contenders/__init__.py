"""Who is measured: floors by hand, what a user would pick instead, and Tenantry as its documentation tells."""
