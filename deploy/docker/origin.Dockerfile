# Reverse proxy, the only address of clients: event streams to the notifier, everything else to the gateway.
FROM python:3.11-slim-bookworm

RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends nginx-light \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin saccade

COPY deploy/origin.conf /etc/saccade/origin.conf
COPY deploy/sse.conf deploy/origin_slot.conf /etc/saccade/
COPY deploy/origin.sh /usr/local/bin/saccade-origin

USER saccade
EXPOSE 8080
STOPSIGNAL SIGQUIT
HEALTHCHECK --interval=5s --timeout=4s --start-period=60s --retries=6 \
    CMD ["python", "-c", "import urllib.request as http; http.urlopen('http://127.0.0.1:8080/origin-health', timeout=3)"]
# It starts last, when all services are healthy.
CMD ["/bin/sh", "-c", "echo \"Saccade is ready: open http://127.0.0.1:${SACCADE_PORT:-8080}/console in a browser (API reference: /docs)\"; \
exec saccade-origin"]
