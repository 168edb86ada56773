//! Heads and framing that two readers could read differently: cases 23 to 28.
use super::{all_refused, posting};

#[tokio::test]
async fn a23_framing_in_doubt() {
    let length = |value: &str| posting(&format!("Content-Length:{value}\r\n"), "0123456789");
    let coding = |lines: &str| posting(&format!("{lines}\r\n"), "1\r\na\r\n0\r\n\r\n");
    let both = "Content-Length: 11\r\nTransfer-Encoding: chunked";
    all_refused(
        400,
        &[
            ("CL.TE", coding(both)),
            ("TE.CL", coding("Transfer-Encoding: chunked\r\nContent-Length: 3")),
            ("TE.TE", coding("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity")),
            ("TE.TE in one", coding("Transfer-Encoding: chunked, chunked")),
            ("TE unknown", coding("Transfer-Encoding: cow")),
            ("lengths that differ", posting("Content-Length: 5\r\nContent-Length: 6\r\n", "01234")),
            ("lengths that agree", posting("Content-Length: 5\r\nContent-Length: 5\r\n", "01234")),
            ("0xa", length(" 0xa")),
            ("+5", length(" +5")),
            ("-1", length(" -1")),
            ("010", length(" 010")),
            ("no digit", length("")),
            ("blank", length("  ")),
            ("a list", length(" 5,5")),
            ("underscored", length(" 1_0")),
        ],
    )
    .await;
}

/// A bare LF is refused as well: what reaches a backend is written anew with CR LF, but a second
/// reader in front of us may have seen other lines than we do.
#[tokio::test]
async fn a24_bare_line_ends() {
    let line = |line: &str| format!("GET /v1/models HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n").into();
    all_refused(
        400,
        &[
            ("CR in a value", line("X: a\rY: b")),
            ("CR for a line end", b"GET /v1/models HTTP/1.1\rHost: a\r\r\n\r\n".to_vec()),
            ("CR CR LF", line("X: a\r")),
            ("LF for a line end", line("X: a\nY: b")),
            ("LF throughout", b"GET /v1/models HTTP/1.1\nHost: a\n\n".to_vec()),
            ("LF at the end", b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\n".to_vec()),
        ],
    )
    .await;
}

#[tokio::test]
async fn a25_folded_lines() {
    let line = |line: &str| format!("GET /v1/models HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n").into();
    all_refused(
        400,
        &[
            ("by a space", line("X: a\r\n b")),
            ("by a tab", line("X: a\r\n\tb")),
            ("a length", posting("Content-Length:\r\n 5\r\n", "01234")),
            ("a coding", posting("Transfer-Encoding:\r\n\tchunked\r\n", "0\r\n\r\n")),
            ("the first line", b"GET /v1/models HTTP/1.1\r\n Host: a\r\n\r\n".to_vec()),
        ],
    )
    .await;
}

#[tokio::test]
async fn a26_control_bytes() {
    let mut all = Vec::new();
    let lines = |name: &str, value: &str| {
        format!("GET /v1/models HTTP/1.1\r\nHost: a\r\n{name}: {value}\r\n\r\n").into_bytes()
    };
    let control = (0_u8..0x20).chain([0x7f]).filter(|byte| !b"\t\n\r".contains(byte));
    for byte in control {
        let byte = char::from(byte);
        all.push(("in a value", lines("X", &format!("a{byte}b"))));
        all.push(("in a name", lines(&format!("X{byte}Y"), "a")));
    }
    all.push(("in a credential", lines("Authorization", "Bearer a\0b")));
    all_refused(400, &all).await;
}

#[tokio::test]
async fn a27_heads_that_are_too_large() {
    let target = |length: usize| {
        format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(length)).into_bytes()
    };
    let lines = |lines: &str| format!("GET /x HTTP/1.1\r\nHost: a\r\n{lines}\r\n").into_bytes();
    all_refused(
        414,
        &[("8 KiB", target(8192)), ("40 KiB", target(40_000)), ("1 MiB", target(1 << 20))],
    )
    .await;
    let value = |length: usize| lines(&format!("X: {}\r\n", "y".repeat(length)));
    all_refused(
        431,
        &[
            ("33 KiB in one", value(33 << 10)),
            ("1 MiB in one", value(1 << 20)),
            ("33 KiB in many", lines(&format!("X: {}\r\n", "y".repeat(400)).repeat(90))),
            ("101 lines", lines(&"X: y\r\n".repeat(100))),
            ("10,000 lines", lines(&"X: y\r\n".repeat(10_000))),
        ],
    )
    .await;
}

#[tokio::test]
async fn a28_chunks_that_overflow() {
    let chunked = |rest: &str| posting("Transfer-Encoding: chunked\r\n", rest);
    let extension = |length: usize| format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(length));
    all_refused(
        400,
        &[
            ("17 digits", chunked("10000000000000001\r\na\r\n0\r\n\r\n")),
            ("16 digits of f", chunked("ffffffffffffffff0\r\na\r\n0\r\n\r\n")),
            ("digits without end", chunked(&format!("{}\r\na", "1".repeat(5000)))),
            ("an extension of 20 KiB", chunked(&extension(20 << 10))),
            ("an extension of 64 KiB", chunked(&extension(64 << 10))),
            ("many extensions", chunked(&format!("1;{}\r\na\r\n", "x".repeat(9000)).repeat(3))),
        ],
    )
    .await;
}
