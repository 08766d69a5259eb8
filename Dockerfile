# headstart in a container. The workspace is a volume; what a run leaves there belongs to whoever owns it. It has one name
# inside and outside, so that commands on the host find it as it is:
#   docker build -t headstart .
#   docker run --rm -u "$(id -u):$(id -g)" -v "$PWD:$PWD" -w "$PWD" -e HEADSTART_WORKSPACE="$PWD" --shm-size=8g \
#     headstart run photos.yaml
# On a GPU, add --gpus all. The pages, which listen on loopback: --network host ... headstart ui (Linux).
FROM python:3.11-slim
RUN apt-get update && apt-get install --yes --no-install-recommends git fonts-noto-core fonts-noto-cjk && rm -rf /var/lib/apt/lists/*
COPY requirements.lock /opt/headstart/
RUN pip install --no-cache-dir --requirement /opt/headstart/requirements.lock
COPY . /opt/headstart
RUN pip install --no-cache-dir --no-deps /opt/headstart
ENV HEADSTART_WORKSPACE=/workspace HOME=/tmp
WORKDIR /workspace
ENTRYPOINT ["headstart"]
