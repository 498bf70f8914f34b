"""An intake as one would write it in an afternoon: Flask, and a list in Redis."""

import os

import redis
from flask import Flask, request

app = Flask(__name__)
queue = redis.Redis(unix_socket_path=os.environ["REDIS_SOCKET"])


@app.post("/")
def submit() -> tuple[dict[str, str], int]:
    """Push the body as it came."""
    queue.rpush("batches", request.get_data())
    return {"status": "queued"}, 202
