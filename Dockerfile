# kling-receiver and kling-archiver in one image. Ledger and spool live under /data: mount a volume there.
#
#   docker build -t kling-archiver .
#   docker run --read-only --tmpfs /tmp -v kling-data:/data -p 127.0.0.1:8080:8080 --env-file kling.env kling-archiver
#   docker exec <container> kling-archiver status
#
# For builds that are the same in a year, give the base image by digest:
#   --build-arg PYTHON_IMAGE=python:3.13-slim@sha256:…
# Any base will do that has python3 (3.11 or newer) with venv, and useradd: `make image` takes one of Debian's packages.
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
# Dependencies first: this layer changes only with the locks. Wheels only, so that no compiler is needed, and
# every byte by its hash. What is installed gets no pip of its own.
COPY requirements.lock deploy/build.lock ./
RUN python3 -m venv /build && python3 -m venv --without-pip /opt/kling \
 && /build/bin/pip install --require-hashes --only-binary :all: -r build.lock \
 && /build/bin/pip --python /opt/kling/bin/python install --require-hashes --only-binary :all: -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY archiver archiver
COPY receiver receiver
COPY deploy deploy
# Of the tests, the wheel takes what `kling-archiver demo` plays.
COPY tests tests
RUN /build/bin/pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /dist . \
 && /build/bin/pip --python /opt/kling/bin/python install --no-index --no-deps /dist/*.whl

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="kling-archiver" \
      org.opencontainers.image.description="Keeps every Kling AI result: callbacks in, verified images and manifests in your S3 bucket." \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT"
# A number, so that Kubernetes' runAsNonRoot can see that it is not root.
RUN groupadd --gid 10001 kling \
 && useradd --uid 10001 --gid kling --home-dir /data --no-create-home --shell /usr/sbin/nologin kling \
 && install -d -o kling -g kling -m 0700 /data
COPY --from=build /opt/kling /opt/kling
ENV PATH=/opt/kling/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    KLING_HOST=0.0.0.0 \
    KLING_PORT=8080 \
    KLING_LEDGER_URL=sqlite:////data/kling-ledger.db \
    KLING_SPOOL_DIR=/data/spool
USER 10001:10001
WORKDIR /data
EXPOSE 8080
# No VOLUME: it would put an anonymous volume under every container that forgot its mount, and hide from the
# daemon's warning that this ledger will not outlive the container.
#
# Alive, not ready: a full disk makes /readyz fail, and a restart does not empty it.
HEALTHCHECK --interval=30s --timeout=6s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import http.client, os, sys; door = http.client.HTTPConnection('127.0.0.1', int(os.environ['KLING_PORT']), timeout=5); door.request('GET', '/healthz'); sys.exit(door.getresponse().status != 200)"]
# In exec form, so that SIGTERM reaches the daemon and it can drain.
CMD ["kling-receiver"]
