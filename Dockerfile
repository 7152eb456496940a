# Training on NVIDIA GPUs. All packages are wheels: nothing is compiled.
#   docker build -t REGISTRY/keras_nonlocal .
FROM python:3.12-slim
WORKDIR /keras_nonlocal
COPY . .
RUN pip install --no-cache-dir --only-binary=:all: 'tensorflow[and-cuda]==2.20.*' \
    && pip install --no-cache-dir --editable '.[train]'
CMD ["python", "trainers/video.py", "--help"]
