"""Start of the deliveries' projection: where its positions stand in the streams as they are today."""

from __future__ import annotations

from nats.aio.client import Client

from contracts.events.base import Cursor
from contracts.streams import DELIVERIES, EVENTS
from kit.bus.lineage import StreamPosition, open_epoch_if_behind, position_of_stream
from services.notifier.webhooks.deliveries.delivery_file import DeliveryFile
from services.notifier.webhooks.deliveries.event_lineage import EventLineage
from services.notifier.webhooks.endpoints.endpoint_store import EndpointStore


async def resume(file: DeliveryFile, client: Client, endpoints: EndpointStore) -> tuple[EventLineage, StreamPosition]:
    """Set the file to where it agrees with today's streams, and empty it if it belongs to others.

    Return the epochs of EVENTS, and the position that it has now; an empty file is at 0.

    Raises:
        SaccadeError: BUS_UNAVAILABLE.
    """
    planned, recorded = Cursor(file.events_epoch, file.planned), Cursor(file.records_epoch, file.recorded)
    await open_epoch_if_behind(client, EVENTS.name, planned)
    await open_epoch_if_behind(client, DELIVERIES.name, recorded)
    known_endpoints = endpoints.all()
    records = await position_of_stream(client, DELIVERIES.name)
    events = await position_of_stream(client, EVENTS.name)  # last: what names an epoch was stored after its begin
    epoch, records_epoch = events.lineage.current.id, records.lineage.current.id
    shared, shared_records = events.lineage.shared_with(planned), records.lineage.shared_with(recorded)
    own = [known for known in events.lineage.epochs if known.id == file.events_epoch]
    same_records = records.lineage.position_of(Cursor(file.records_epoch, 0)) is not None
    if own and same_records and shared <= events.last and shared_records <= records.last:
        file.rewind(Cursor(epoch, shared), Cursor(records_epoch, shared_records), own[0].until)
    else:
        file.reset(epoch, records_epoch)
    return EventLineage(events, records, known_endpoints), events
