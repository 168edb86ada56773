//! The two signals of a graceful end: stop taking work, then stop.
