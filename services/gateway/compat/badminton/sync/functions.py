"""The functions of the page's Convex deployment: queries, mutations and actions of its module ``videos``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from secrets import token_urlsafe
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from contracts.errors import ErrorCode, SaccadeError
from kit.auth.api_keys import Principal
from kit.http.request_body import check_text
from services.gateway.compat.badminton.sync.sync_state import Failed, Outcome, Query, Returned
from services.gateway.compat.badminton.videos.file_urls import FileUrls
from services.gateway.compat.badminton.videos.keypoints import checked_keypoints
from services.gateway.compat.badminton.videos.video_changes import of_tenant, of_video
from services.gateway.compat.badminton.videos.video_log import newest, video_entries
from services.gateway.compat.badminton.videos.video_records import AnalysisMode
from services.gateway.compat.badminton.videos.video_rows import row
from services.gateway.compat.badminton.videos.video_service import Videos

#: Said of keypoints that come too late; the page shows nothing of it.
TOO_LATE: Final = "Saved, but the analysis of this video was submitted before and does not use them."


@dataclass(frozen=True)
class Caller:
    """A connection: on whose behalf it calls, and the URL that it was given."""

    principal: Principal
    base_url: str

    @property
    def tenant(self) -> str:
        """Return the tenant of the API key."""
        return self.principal.tenant


class _Arguments(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, frozen=True, extra="ignore")


class _OfVideo(_Arguments):
    video_id: str = Field(max_length=200)


class _NewVideo(_Arguments):
    storage_id: str = Field(max_length=200)
    filename: str = Field(max_length=500)
    size: Annotated[float, Field(ge=0, le=1e15, allow_inf_nan=False)] = 0.0
    analysis_mode: AnalysisMode = "full"


class _Keypoints(_OfVideo):
    keypoints: Any = None


_Checked = TypeVar("_Checked", bound=_Arguments)
_Function = Callable[[Caller, Mapping[str, Any]], Awaitable[Any]]
#: Functions that the replaced worker called; ours reports by events.
_OF_THE_WORKER: Final = frozenset({"videos:updateStatus", "videos:updateResults", "videos:addLog"})


class Functions:
    """The functions by name."""

    def __init__(self, videos: Videos, urls: FileUrls) -> None:
        """Serve ``videos``; ``urls`` signs the URLs of their files."""
        self._videos, self._urls = videos, urls
        self._queries: dict[str, _Function] = {
            "videos:getVideo": self._get_video,
            "videos:listVideos": self._list_videos,
            "videos:getProcessingLogs": self._get_processing_logs,
            "videos:getManualCourtKeypoints": self._get_keypoints,
        }
        self._mutations: dict[str, _Function] = {
            "videos:generateUploadUrl": self._generate_upload_url,
            "videos:createVideo": self._create_video,
            "videos:setManualCourtKeypoints": self._set_keypoints,
            "videos:deleteVideo": self._delete_video,
        }
        self._actions: dict[str, _Function] = {"videos:processVideo": self._process_video}

    async def query(self, caller: Caller, query: Query) -> Outcome | None:
        """Return the outcome of a query; None if bus or bucket do not answer at the moment."""
        try:
            return await self._call(self._queries, "query", caller, query.name, query.arguments)
        except SaccadeError:
            return None

    async def call(
        self, caller: Caller, kind: Literal["Mutation", "Action"], name: str, arguments: Mapping[str, Any]
    ) -> Outcome:
        """Call a mutation or an action and return its outcome."""
        functions = self._mutations if kind == "Mutation" else self._actions
        try:
            caller.principal.require("write")
        except SaccadeError as error:
            return Failed(error.message)
        try:
            return await self._call(functions, kind.lower(), caller, name, arguments)
        except SaccadeError as error:
            return Failed(f"{error.message} {error.hint}".strip())

    def topics(self, caller: Caller, query: Query) -> frozenset[str]:
        """Return the topics on which the outcome of a query depends."""
        if query.name == "videos:listVideos":
            return frozenset({of_tenant(caller.tenant)})
        return frozenset({of_video(str(query.arguments.get("videoId")))})

    async def _call(
        self, functions: Mapping[str, _Function], kind: str, caller: Caller, name: str, arguments: Mapping[str, Any]
    ) -> Outcome:
        """Call one of the functions.

        Raises:
            SaccadeError: it may succeed when it is called again.
        """
        function = functions.get(name)
        if function is None:
            served = "workers report by events here" if name in _OF_THE_WORKER else f"there are: {', '.join(functions)}"
            return Failed(f"There is no {kind} {name[:100]!r}: {served}.")
        try:
            check_text(arguments)
            return Returned(await function(caller, arguments))
        except SaccadeError as error:
            if error.kind.retryable:
                raise
            return Failed(f"{error.message} {error.hint}".strip())

    # -- queries

    async def _get_video(self, caller: Caller, given: Mapping[str, Any]) -> dict[str, Any] | None:
        video = await self._videos.find(caller.tenant, _checked(_OfVideo, given).video_id)
        if video is None:
            return None
        return {
            **row(video),
            "videoUrl": await self._urls.original(video),
            "processedVideoUrl": await self._urls.processed(video),
            "resultsUrl": await self._urls.results(video),
        }

    async def _list_videos(self, caller: Caller, given: Mapping[str, Any]) -> list[dict[str, Any]]:  # noqa: ARG002
        return [row(video) for video in await self._videos.of_newest_jobs(caller.tenant)]

    async def _get_processing_logs(self, caller: Caller, given: Mapping[str, Any]) -> list[dict[str, Any]]:
        video = await self._videos.find(caller.tenant, _checked(_OfVideo, given).video_id)
        if video is None:
            return []
        entries = newest([*video_entries(video), *await self._videos.log(video)])
        return [{**entry, "videoId": video.upload.id} for entry in entries]

    async def _get_keypoints(self, caller: Caller, given: Mapping[str, Any]) -> dict[str, Any] | None:
        video = await self._videos.find(caller.tenant, _checked(_OfVideo, given).video_id)
        if video is None:
            return None
        saved = video.keypoints
        return {"has_manual_keypoints": saved is not None, "keypoints": saved.keypoints if saved else None}

    # -- mutations and actions

    async def _generate_upload_url(self, caller: Caller, given: Mapping[str, Any]) -> str:  # noqa: ARG002
        return f"{caller.base_url}/api/storage/upload?token={token_urlsafe(24)}"

    async def _create_video(self, caller: Caller, given: Mapping[str, Any]) -> str:
        new = _checked(_NewVideo, given)
        return await self._videos.create(
            caller.tenant,
            new.storage_id,
            filename=new.filename,
            size=new.size,
            analysis_mode=new.analysis_mode,
        )

    async def _set_keypoints(self, caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
        wanted = _checked(_Keypoints, given)
        keypoints = checked_keypoints(wanted.keypoints)
        in_time = await self._videos.set_keypoints(caller.tenant, wanted.video_id, keypoints)
        return {"success": True, "keypoints": keypoints, **({} if in_time else {"message": TOO_LATE})}

    async def _delete_video(self, caller: Caller, given: Mapping[str, Any]) -> None:
        await self._videos.delete(caller.tenant, _checked(_OfVideo, given).video_id)

    async def _process_video(self, caller: Caller, given: Mapping[str, Any]) -> None:
        await self._videos.process(caller.tenant, _checked(_OfVideo, given).video_id)


def _checked(model: type[_Checked], given: Mapping[str, Any]) -> _Checked:
    """Return a function's arguments.

    Raises:
        SaccadeError: INVALID_PARAMETER.
    """
    try:
        return model.model_validate(given)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, fault["loc"]))
        hint = "docs/badminton_clients.md lists the functions and their arguments."
        raise SaccadeError(ErrorCode.INVALID_PARAMETER, f"{where}: {fault['msg']}.", hint=hint) from None
