//! A sidecar's life as the machine around it sees it: the real binary, its signals, its sockets.
mod agent;
mod child;
mod drain;

pub const CHAT: &str = "/v1/chat/completions";
