# nats-server with our configuration, for hosts that mount no files (render.yaml). Compose mounts them instead.
FROM nats:2.15-alpine

COPY deploy/nats.conf /etc/saccade/nats.conf
COPY deploy/nats_users.conf /etc/saccade/nats_users.conf

EXPOSE 4222
STOPSIGNAL SIGTERM
CMD ["nats-server", "-c", "/etc/saccade/nats.conf"]
