# The agent and trace-popen. One image serves every kernel: the probes need no kernel headers.
#
#     podman build -t spawnstall --build-arg REVISION=$(git rev-parse HEAD) --build-arg CREATED=$(date -u +%FT%TZ) .
#
# The base image must be Debian or a derivative; config/rpm/Containerfile makes an image of CentOS Stream from the RPM.
# Most of the image is LLVM, which libbpfcc compiles the probes with. How to run it: config/INSTALL.md.
#
# config/pin.sh (make pin) writes the digest of the base image behind its tag.
ARG BASE_IMAGE=docker.io/library/debian:bookworm-slim@sha256:96e378d7e6531ac9a15ad505478fcc2e69f371b10f5cdf87857c4b8188404716

FROM ${BASE_IMAGE} AS base
RUN apt-get -qq update && \
    DEBIAN_FRONTEND=noninteractive apt-get -qqy upgrade && \
    DEBIAN_FRONTEND=noninteractive apt-get -qqy --no-install-recommends install python3-bpfcc && \
    apt-get -qq clean && \
    rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/apt /var/log/dpkg.log /var/log/alternatives.log

FROM base AS build
# pip reads these, for a mirror of PyPI or a directory of wheels.
ARG PIP_INDEX_URL PIP_FIND_LINKS PIP_NO_INDEX
RUN apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qqy --no-install-recommends install python3-venv
WORKDIR /src
COPY . .
RUN python3 -m venv --system-site-packages /opt/spawnstall && \
    /opt/spawnstall/bin/pip install -q --no-cache-dir --require-hashes -r config/requirements.txt && \
    /opt/spawnstall/bin/pip install -q --no-cache-dir --no-deps --no-build-isolation . && \
    /opt/spawnstall/bin/pip uninstall -qy pip setuptools

# The packages that the image has, those of PyPI and those of the distribution.
FROM base AS sbom
ARG SOURCE_DATE_EPOCH
WORKDIR /src
COPY --from=build /opt/spawnstall /opt/spawnstall
COPY config/sbom.py config/requirements.txt config/
RUN python3 config/sbom.py --image /opt/spawnstall >sbom.cdx.json

FROM base
ARG VERSION=0.2.0
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="spawnstall" \
      org.opencontainers.image.description="Finds the process that keeps subprocess.Popen waiting" \
      org.opencontainers.image.licenses="Apache-2.0 AND (GPL-2.0-only OR BSD-2-Clause)" \
      org.opencontainers.image.url="https://github.com/spawnstall/spawnstall" \
      org.opencontainers.image.source="https://github.com/spawnstall/spawnstall" \
      org.opencontainers.image.documentation="https://github.com/spawnstall/spawnstall/blob/main/README.md" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
COPY LICENSE /usr/share/licenses/spawnstall/LICENSE
COPY --from=build /opt/spawnstall /opt/spawnstall
COPY --from=sbom /src/sbom.cdx.json /opt/spawnstall/share/spawnstall/sbom.cdx.json
COPY config/agent.yaml /etc/spawnstall/agent.yaml
ENV PATH=/opt/spawnstall/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
EXPOSE 9848
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s \
    CMD ["/opt/spawnstall/bin/python", "-I", "-m", "agent.serve.health", "/etc/spawnstall/agent.yaml"]
# No USER: docker and Kubernetes give capabilities to root only; podman gives them to any --user.
ENTRYPOINT ["trace-popen"]
CMD ["agent", "--config", "/etc/spawnstall/agent.yaml"]
