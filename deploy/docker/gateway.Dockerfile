# Gateway: REST in, events out. Holds the workers' declarations (spec.py), not their packages: no OpenCV, no NumPy.
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
RUN uv pip install -c constraints.txt -r pyproject.toml --extra gateway --extra otel

COPY contracts contracts
COPY services/__init__.py services/__init__.py
COPY kit kit
COPY services/gateway services/gateway
COPY modal_workers modal_workers
RUN python -m compileall -q contracts kit services modal_workers

ENV GATEWAY_HOST=0.0.0.0 GATEWAY_PORT=8081 GATEWAY_DATA_DIR=/data
USER saccade
EXPOSE 8081
STOPSIGNAL SIGTERM
# A long history takes minutes to read; until then checks that fail do not count.
HEALTHCHECK --interval=5s --timeout=4s --start-period=600s --retries=6 \
    CMD ["python", "-c", "import urllib.request as http; http.urlopen('http://127.0.0.1:8081/ready', timeout=3)"]
CMD ["python", "-m", "services.gateway"]
