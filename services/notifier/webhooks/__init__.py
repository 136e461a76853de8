"""Webhooks: stored events delivered to a tenant's endpoints, signed, at least once.

1. Event: ``on_event.py`` hands every stored event to ``RecentEvents``.
2. Plan: ``EventPlanning`` asks ``planner.py`` which endpoints get it and stores one pending delivery for each.
3. Queue: the projector passes each pending delivery to ``SendingEngine.enqueue``: one lane per receiver.
4. Send: the engine that holds the lease takes what is due from the lanes; ``Sender`` makes one attempt.
5. Record, project: the attempt is published to DELIVERIES; each projector reads it back and updates the delivery.
"""
