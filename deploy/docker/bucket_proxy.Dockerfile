# Bucket proxy: the address of the bucket for clients, in front of an S3 server that answers range requests wrongly.
FROM python:3.11-slim-bookworm

ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PIP_ROOT_USER_ACTION=ignore \
    UV_SYSTEM_PYTHON=1 UV_NO_CACHE=1 UV_COMPILE_BYTECODE=1
RUN useradd --system --uid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin saccade \
    && install -d -o saccade -g saccade /data
WORKDIR /app

# Dependencies before the source, so that a change of source reinstalls nothing. All services share the layers up to
# and including the kit.
COPY pyproject.toml constraints.txt ./
# uv takes a fifth of pip's CPU time. It reads the extras from pyproject.toml and builds nothing.
RUN pip install --no-cache-dir -c constraints.txt uv
RUN uv pip install -c constraints.txt -r pyproject.toml --extra kit

COPY contracts contracts
COPY services/__init__.py services/__init__.py
COPY kit kit
COPY services/bucket_proxy services/bucket_proxy
RUN python -m compileall -q contracts kit services

ENV BUCKET_PROXY_HOST=0.0.0.0 BUCKET_PROXY_PORT=9000
USER saccade
EXPOSE 9000
STOPSIGNAL SIGTERM
# Without a signature the S3 server refuses the request, which is an answer of it; without the server it is 503.
HEALTHCHECK --interval=5s --timeout=4s --start-period=60s --retries=6 \
    CMD ["python", "-c", "import http.client as http; link = http.HTTPConnection('127.0.0.1', 9000, timeout=3); \
link.request('GET', '/'); raise SystemExit(link.getresponse().status >= 500)"]
CMD ["python", "-m", "services.bucket_proxy"]
