//! The operators' door of the program itself: who comes in, what is refused, what the page is given.
#![allow(clippy::expect_used, reason = "helpers of tests, not only tests themselves")]
mod page;
mod safety;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Output};
use std::time::Duration;

use crate::support::app::App;

/// What this instance asks for.
const TOKEN: &str = "a-token-that-nobody-guesses";

/// Status and head, in small letters, and the body.
fn ask(to: SocketAddr, line: &str, headers: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(to).expect("the admin listener");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let host = if headers.contains("host:") { "" } else { "host: localhost\r\n" };
    write!(
        stream,
        "{line} HTTP/1.1\r\n{host}connection: close\r\ncontent-length: 0\r\n{headers}\r\n"
    )
    .expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    (head[9..12].parse().expect("a status"), head.to_ascii_lowercase(), body.to_owned())
}

fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}\r\n")
}

/// What our own page sends beside a POST.
fn of_page(app: &App) -> String {
    let host = app.admin;
    format!("host: {host}\r\norigin: http://{host}\r\nx-tidegate-page: 1\r\n")
}

/// The program with a policy file, ended by itself.
fn told(args: &[&str], policy: &str) -> Output {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("policy.yaml");
    std::fs::write(&file, policy).expect("a policy");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(args).arg("-c").arg(&file).env_remove("TIDEGATE_ADMIN_TOKEN");
    command.output().expect("it runs")
}
