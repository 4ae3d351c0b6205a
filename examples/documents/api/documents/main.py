"""What a server runs: `uvicorn documents.main:app`."""

from documents.app import create_app

app = create_app()
