//! What a caller is told whose call met a fault in this program: the call is over, its guards have
//! given back what it held, its record was closed on the way out, and the process goes on.
use http::{HeaderValue, Response, StatusCode, header};

use crate::pipeline::reply::ReplyBody;
use crate::wire::{Dialect, Fault, error_body};

/// For programs, in answers, logs and metrics.
pub const CODE: &str = "internal_error";

/// Its dialect is not known any more.
pub fn broken() -> Response<ReplyBody> {
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    let message = "This sidecar met a fault of its own. Other calls are not concerned.";
    let fault = Fault { status: status.as_u16(), code: CODE, message, request_id: "" };
    let mut response = Response::new(ReplyBody::Whole(error_body(Dialect::Http, &fault)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // nobody knows what of the request was read
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
