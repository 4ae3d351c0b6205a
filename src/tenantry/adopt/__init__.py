"""Moves a live app behind tenant isolation: reads its tables, proposes, applies in steps, undoes, verifies."""
