#!/usr/bin/env bash
# S3 over a folder. It knows one key, no rights per bucket and no conditional writes: a stand-in for tests, not a store.
set -euo pipefail
exec rclone serve s3 --addr :8333 --auth-key "${S3_ACCESS_KEY:?},${S3_SECRET_KEY:?}" --vfs-cache-mode writes --cache-dir /data/.cache /data/buckets
