"""The part of the portal that captures: its routes, and the jobs that run beside them."""

from datetime import timedelta
from functools import partial

from starlette.routing import BaseRoute

from medtrail.runtime.tables import prepare
from medtrail.runtime.tokens import Clock, utc_now
from services.portal import jobs
from services.portal.capture import CaptureDesk, capture_routes
from services.portal.parts import PortalParts
from services.portal.query.paging import PageTokens
from services.portal.runner import JobRunner
from services.portal.uploads import Uploads

UPLOAD_FOLDER = "uploads"


class Capturing:
    """Capture of one portal: made once, it gives routes, and is run beside them."""

    def __init__(self, parts: PortalParts, *, clock: Clock = utc_now) -> None:
        """Make what is absent, remove what a crash left, and put the parts together. Blocks: for a process's start."""
        settings = parts.settings
        parts.database.write_now(partial(prepare, metadata=jobs.JOB_METADATA))
        uploads = Uploads(
            settings.data_dir / UPLOAD_FOLDER,
            largest=settings.capture_file_size_limit,
            timeout_s=settings.upload_timeout_s,
        )
        uploads.clean(parts.database.read_now(jobs.running_ids))
        self.runner = JobRunner(
            parts.database,
            parts.custody,
            parts.repository,
            uploads,
            clock=clock,
            capture_limit=settings.capture_limit,
            keep=timedelta(days=settings.keep_jobs_days),
        )
        self._desk = CaptureDesk(parts, uploads, self.runner, PageTokens(parts.database, clock=clock))

    def routes(self) -> list[BaseRoute]:
        """Return the routes of the capture interface."""
        return capture_routes(self._desk)

    async def run(self) -> None:
        """Run jobs until cancelled; those that a crash interrupted first."""
        await self.runner.run()
