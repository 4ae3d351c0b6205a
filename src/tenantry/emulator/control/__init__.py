"""The emulator's own controls: a JSON API at `/emulator` and a page at `/`, for this machine only."""

from tenantry.emulator.control.call import Controls
from tenantry.emulator.control.page import create_page
from tenantry.emulator.control.routes import create_api

__all__ = ["Controls", "create_api", "create_page"]
