# Unroll as an image. The last target serves, without PyTorch; the target `train` adds it:
#
#   docker build --tag unroll .
#   docker build --tag unroll:train --target train --build-arg TORCH_INDEX=URL .
#
# docker/README.md says how to run them. `make image-proof` builds them with Podman and uses them.

ARG BASE=python:3.13-slim-trixie

# What everything stands on. The official image has no bytecode of the standard library; on a root that is only read,
# every start and every health check would compile it again.
FROM ${BASE} AS base
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
RUN python -m compileall -q --invalidation-mode unchecked-hash \
        -x 'site-packages|dist-packages|/test/|idlelib|tkinter|turtledemo|ensurepip|pydoc_data' \
        "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"

# What serving needs, as pinned: a layer that only another pin changes.
FROM base AS dependencies
ENV PIP_PYTHON=/opt/unroll/bin/python PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore PIP_CONSTRAINT=/build/constraints.txt
ARG PIP_INDEX_URL
WORKDIR /build
RUN python -m venv --without-pip /opt/unroll
COPY pyproject.toml constraints.txt docker/requirements.py docker/left-out.txt ./
RUN python requirements.py > serving.txt \
    && python -m pip install --requirement serving.txt \
    && python -m pip uninstall --yes --requirement left-out.txt \
    && find /opt/unroll/lib -depth -type d -name tests -exec rm -r {} + \
    && python -m compileall -q --invalidation-mode unchecked-hash /opt/unroll/lib

# What training needs beside: PyTorch from an index of CPU builds, for the default one brings gigabytes of CUDA. Its own
# tests are not compiled: some are written for other versions of Python.
FROM dependencies AS training
ARG TORCH_INDEX
RUN test -n "$TORCH_INDEX" \
    || { echo "Name an index of PyTorch's CPU builds with --build-arg TORCH_INDEX=URL; pytorch.org has it." >&2; exit 1; }
RUN python requirements.py train > training.txt \
    && grep '^torch' training.txt > torch.txt \
    && python -m pip install --root /training --index-url "$TORCH_INDEX" --requirement torch.txt \
    && PYTHONPATH="$(echo /training/opt/unroll/lib/python*/site-packages)" \
        python -m pip install --root /training --requirement training.txt \
    && python -m compileall -q -s /training -x 'torch/testing' --invalidation-mode unchecked-hash /training/opt/unroll/lib

# The program and its kernel, which picks the processor's instructions when it runs.
FROM base AS compiler
# Debian keeps no version but the newest, so a pin would fail after the next security update.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*

FROM compiler AS code
ENV PIP_PYTHON=/opt/unroll/bin/python PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore
ARG PIP_INDEX_URL
COPY --from=dependencies /opt/unroll /opt/unroll
WORKDIR /build
COPY pyproject.toml setup.py README.md LICENSE unroll.py ./
COPY model model
COPY training training
COPY service service
RUN python -m pip install --no-deps --root /code . \
    && ls /code/opt/unroll/lib/python*/site-packages/model/_kernel*.so \
    && find /code/opt/unroll/lib -name '*.so' -exec strip --strip-debug {} + \
    && python -m compileall -q -s /code --invalidation-mode unchecked-hash /code/opt/unroll/lib

# What both images have: the dependencies, and the program on top.
FROM base AS program
ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="Unroll" \
      org.opencontainers.image.description="Trains a character-level recurrent language model on any text and streams text from it over HTTP" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED"
COPY --from=dependencies /opt/unroll /opt/unroll
COPY --from=code /code/opt/unroll /opt/unroll
ENV PATH=/opt/unroll/bin:$PATH
STOPSIGNAL SIGTERM
ENTRYPOINT ["unroll"]

# docker run --user "$(id -u):$(id -g)" -v "$PWD:/data" unroll:train train /data/book.txt
FROM program AS train
COPY --from=training /training/opt/unroll /opt/unroll
RUN install --directory --owner 10001 --group 10001 /data
# The user that runs it has no home here, and perhaps no name; libraries that keep caches put them where anyone may write.
ENV HOME=/tmp USER=unroll
WORKDIR /data
USER 10001:10001
HEALTHCHECK NONE
CMD ["train", "--help"]

# docker run -p 8000:8000 unroll
FROM program AS serving
ENV UNROLL_HOST=0.0.0.0
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=15s --retries=3 CMD ["unroll", "health"]
CMD ["serve"]
