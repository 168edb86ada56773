//! Backends that speak HTTP/2: by ALPN, by prior knowledge, and with everything they may refuse.
