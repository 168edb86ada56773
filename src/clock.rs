//! Time for the request path: one coarse tick a worker, and wall time for log lines.
