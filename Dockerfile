# A CPU or GPU image without nvcc: docker build -t fastervit . && docker run --gpus all --shm-size 8g -it fastervit
FROM python:3.11-slim
RUN apt-get update && apt-get install -y --no-install-recommends make git \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /fastervit_backbone
COPY . .
RUN make setup
ENV PATH=/fastervit_backbone/.venv/bin:$PATH
CMD ["bash"]
