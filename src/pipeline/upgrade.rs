//! WebSocket: the upgrade is passed on, and once both sides agree, bytes are copied both ways.
//!
//! Nothing is sent to the backend beyond the request until it has said 101. The tunnel is a task of
//! its own: it holds the call's place and record, and ends when either side does.
use std::rc::Rc;

use http::{HeaderValue, StatusCode, header, request};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncWriteExt, copy_bidirectional};

use super::admit::Lease;
use super::call::Call;
use super::dispatch::Prepared;
use super::record::Record;
use super::refusal::Refusal;
use super::reply::{Content, Reply, Sent};
use super::worker::Worker;
use crate::flight::Ticket;
use crate::telemetry::metrics::Outcome;
use crate::upstream::call::{Outbound, send};
use crate::upstream::outgoing::Outgoing;
use crate::wire::Dialect;
