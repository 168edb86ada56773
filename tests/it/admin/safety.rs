//! What strangers can reach is never open.
use serde_json::Value;
use tidegate::config::{Host, Http2, UpstreamTls};
use tidegate::upstream::connect::Connector;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::net::certs::{Authority, Pair};

const BACKEND: &str = "upstreams: { a: { builtin: simulator } }\n";

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn far(token: &str) -> String {
    format!("admin: {{ at: '0.0.0.0:0', token: '{token}' }}\n{BACKEND}")
}

#[test]
fn beyond_loopback_without_a_proof_is_refused_by_check_and_by_serve() {
    for admin in ["0.0.0.0:0", "'[::]:0'", "192.0.2.7:8081", "{ at: '0.0.0.0:0', actions: on }"] {
        let policy = format!("listen: 127.0.0.1:0\nadmin: {admin}\n{BACKEND}");
        for command in ["check", "run"] {
            let out = told(&[command], &policy);
            let said = text(&out.stderr);
            assert_eq!(out.status.code(), Some(1), "{command} {admin}: {said}");
            assert!(said.contains("open to other machines"), "{said}");
            // and what to write instead
            for word in ["token:", "client_ca", "`state`", "loopback"] {
                assert!(said.contains(word), "{word}: {said}");
            }
        }
    }
}

#[test]
fn each_proof_and_each_near_address_is_enough() {
    let ca = Authority::new("operators");
    let server = ca.issue_local("server");
    let tls = |auth: &str| {
        format!(
            "admin: {{ at: '0.0.0.0:0', tls: {{ cert: '{}', key: '{}', client_ca: '{}', \
             client_auth: {auth} }} }}\n",
            server.cert.display(),
            server.key.display(),
            ca.ca().display()
        )
    };
    for good in [
        "admin: 127.0.0.1:0\n",
        "admin: '[::1]:0'\n",
        "admin: unix:/tmp/some.sock\n",
        "admin: systemd:admin\n",
        "admin: off\n",
        &format!("admin: {{ at: '0.0.0.0:0', token: {TOKEN} }}\n"),
        "admin: 0.0.0.0:0\nstate: some-directory\n",
        &tls("required"),
    ] {
        let out = told(&["check"], &format!("{good}{BACKEND}"));
        assert_eq!(out.status.code(), Some(0), "{good}: {}", text(&out.stderr));
    }
    let out = told(&["check"], &format!("{}{BACKEND}", tls("optional")));
    assert_eq!(out.status.code(), Some(1), "a certificate that may be left out is no proof");
}

#[test]
fn a_token_is_long_and_is_never_shown() {
    let out = told(&["check"], &far("tiny-token"));
    assert_eq!(out.status.code(), Some(1));
    assert!(
        text(&out.stderr).contains("16 characters") && !text(&out.stderr).contains("tiny-token")
    );
    let out = told(&["check", "--print"], &far(TOKEN));
    let shown = text(&out.stdout);
    assert!(shown.contains("token: <redacted>") && !shown.contains(TOKEN), "{shown}");
    let out = told(&["check"], "admin: { at: 'unix:/x', tls: { cert: a, key: b } }\n");
    assert!(text(&out.stderr).contains("TLS on TCP only"), "{}", text(&out.stderr));
}

#[tokio::test]
async fn who_shows_no_token_learns_that_it_lives_and_no_more() {
    let mut app = App::start(&far(TOKEN));
    (app.proof, app.secrets) = (bearer(TOKEN), vec![TOKEN.to_owned()]);
    for open in ["/livez", "/readyz", "/healthz"] {
        assert_eq!(ask(app.admin, &format!("GET {open}"), "").0, 200, "{open}");
    }
    let wrong = bearer("another-token-than-that");
    for path in ["/metrics", "/state", "/cache", "/keys", "/tasks", "/nothing", "/readyz/x"] {
        for headers in ["", &wrong, &of_page(&app)] {
            let (status, head, body) = ask(app.admin, &format!("GET {path}"), headers);
            assert_eq!(status, 401, "{path}");
            assert!(head.contains("www-authenticate: bearer"), "{head}");
            assert!(!head.contains("access-control"), "{head}");
            assert!(!body.contains(TOKEN) && body.contains("unauthorized"), "{body}");
        }
    }
    assert_eq!(ask(app.admin, "POST /cache/purge", &of_page(&app)).0, 401);
    // by any name: who shows the token was not tricked into coming
    let by_name = format!("host: tidegate.example\r\n{}", bearer(TOKEN));
    assert_eq!(ask(app.admin, "GET /state", &by_name).0, 200);
    assert_eq!(ask(app.admin, "GET /metrics", &bearer(TOKEN)).0, 200);
}

#[tokio::test]
async fn with_state_the_token_in_its_directory_opens_a_far_door() {
    let kept = tempfile::tempdir().unwrap();
    let state = kept.path().join("state");
    let policy = format!("admin: 0.0.0.0:0\nstate: '{}'\n{BACKEND}", state.display());
    let mut app = App::start(&policy);
    let token = std::fs::read_to_string(state.join("admin.token")).unwrap();
    app.proof = bearer(token.trim_end());
    app.secrets = vec![token.trim_end().to_owned()];
    assert_eq!(ask(app.admin, "GET /state", "").0, 401);
    assert_eq!(ask(app.admin, "GET /state", &app.proof).0, 200);
    assert_eq!(ask(app.admin, "GET /keys", &app.proof).0, 200);
}

#[tokio::test]
async fn the_commands_show_the_token_of_the_policy_and_of_the_environment() {
    let kept = tempfile::tempdir().unwrap();
    let state = format!("state: '{}'\n", kept.path().join("state").display());
    let mut app = App::start(&format!("{state}{}", far(TOKEN)));
    (app.proof, app.secrets) = (bearer(TOKEN), vec![TOKEN.to_owned()]);
    let at = format!("127.0.0.1:{}", app.admin.port());
    let file = app.policy_file();
    let run = |args: &[&str], config: bool, token: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(args).args(["--admin", &at]).env_remove("TIDEGATE_ADMIN_TOKEN");
        if config {
            command.arg("--config").arg(&file).env("CANARY", "-");
        }
        command.envs(token.map(|token| ("TIDEGATE_ADMIN_TOKEN", token)));
        command.output().unwrap()
    };
    let looks = [&["agents", "--once"][..], &["cache", "stats"], &["tasks", "list"]];
    for args in looks {
        for (config, token) in [(true, None), (false, Some(TOKEN))] {
            let out = run(args, config, token);
            assert_eq!(out.status.code(), Some(0), "{args:?}: {}", text(&out.stderr));
        }
        for (config, token) in [(false, None), (false, Some("another-token-than-that"))] {
            let out = run(args, config, token);
            assert_eq!(out.status.code(), Some(3), "{args:?}");
            assert!(!text(&out.stderr).contains("another-token"), "{}", text(&out.stderr));
        }
        assert!(text(&run(args, false, None).stderr).contains("TIDEGATE_ADMIN_TOKEN"));
    }
}

#[tokio::test]
async fn the_environment_says_the_token_of_an_instance() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.env("TIDEGATE_ADMIN_TOKEN", TOKEN);
    let args = ["--workers", "1", "--admin", "0.0.0.0:0"];
    let mut app = App::by(command, BACKEND, &args);
    (app.proof, app.secrets) = (bearer(TOKEN), vec![TOKEN.to_owned()]);
    assert_eq!(ask(app.admin, "GET /state", "").0, 401);
    assert_eq!(ask(app.admin, "GET /state", &bearer(TOKEN)).0, 200);
}

/// The status of `/state` over TLS, asked for by a name, with a certificate or without.
async fn over_tls(port: u16, ca: &Authority, pair: Option<&Pair>, name: &str) -> Option<u16> {
    let tls = UpstreamTls {
        ca: Some(ca.ca()),
        cert: pair.map(|pair| pair.cert.clone()),
        key: pair.map(|pair| pair.key.clone()),
    };
    let upstream =
        tidegate::config::Upstream { tls, http2: Http2::Never, ..crate::net::upstream() };
    let connector = Connector::new(&upstream, &|_| None).unwrap();
    let to = tidegate::config::Origin {
        tls: true,
        host: Host::Name("localhost".into()),
        port,
        path: "".into(),
    };
    let mut stream = connector.connect(&to).await.ok()?.stream;
    let request =
        format!("GET /state HTTP/1.1\r\nhost: {name}:{port}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok()?;
    text(&answer).get(9..12)?.parse().ok()
}

#[tokio::test]
async fn a_client_certificate_opens_a_far_door() {
    let (ca, stranger) = (Authority::new("operators"), Authority::new("strangers"));
    let server = ca.issue_local("server");
    let last = (2090, 1, 1);
    let known = ca.issue("operator", &["operator.internal"], last);
    let foreign = stranger.issue("foreign", &["operator.internal"], last);
    let policy = format!(
        "listen: 127.0.0.1:0\nadmin: {{ at: '0.0.0.0:0', tls: {{ cert: '{}', key: '{}', \
         client_ca: '{}' }} }}\n{BACKEND}",
        server.cert.display(),
        server.key.display(),
        ca.ca().display()
    );
    let mut sidecar =
        crate::life::child::Sidecar::start_by(crate::life::child::tidegate(), &policy).await;
    let port = sidecar.admin.port();
    for name in ["localhost", "sidecar.internal"] {
        assert_eq!(over_tls(port, &ca, Some(&known), name).await, Some(200), "{name}");
        assert_eq!(over_tls(port, &ca, None, name).await, None, "no certificate");
        assert_eq!(over_tls(port, &ca, Some(&foreign), name).await, None, "of another authority");
    }
    sidecar.child.kill().unwrap();
}

#[tokio::test]
async fn an_open_door_may_only_be_looked_through_unless_that_is_on() {
    let off = App::start(BACKEND);
    let (status, _, body) = ask(off.admin, "POST /cache/purge?all=true", &of_page(&off));
    assert_eq!(status, 403);
    let body: Value = serde_json::from_str(&body).unwrap();
    assert!(body["error"]["message"].as_str().unwrap().contains("actions: on"), "{body}");
    // nor does any other program
    assert_eq!(ask(off.admin, "POST /cache/purge?all=true", "").0, 403);

    let on = App::start(&format!("admin: {{ at: '127.0.0.1:0', actions: on }}\n{BACKEND}"));
    assert_eq!(ask(on.admin, "POST /cache/purge?all=true", &of_page(&on)).0, 200);
    // whoever is here and is no page may, as there is no token to show
    assert_eq!(ask(on.admin, "POST /cache/purge?all=true", "").0, 200);
    let host = on.admin;
    for page in [
        format!("host: {host}\r\norigin: http://evil.example\r\nx-tidegate-page: 1\r\n"),
        format!("host: {host}\r\norigin: http://{host}\r\n"),
        format!("host: {host}\r\nx-tidegate-page: 1\r\n"),
        format!("host: {host}\r\norigin: null\r\nx-tidegate-page: 1\r\n"),
    ] {
        assert_eq!(ask(on.admin, "POST /cache/purge?all=true", &page).0, 403, "{page}");
    }
    let preflight = format!(
        "host: {host}\r\norigin: http://evil.example\r\naccess-control-request-method: POST\r\n"
    );
    let (status, head, _) = ask(on.admin, "OPTIONS /cache/purge", &preflight);
    assert_eq!(status, 405);
    assert!(!head.contains("access-control"), "{head}");
}

#[tokio::test]
async fn the_serving_line_names_a_unix_socket_too() {
    let directory = tempfile::tempdir().unwrap();
    let at = format!("unix:{}", directory.path().join("admin.sock").display());
    let file = directory.path().join("policy.yaml");
    std::fs::write(&file, format!("listen: 127.0.0.1:0\nadmin: '{at}'\n{BACKEND}")).unwrap();
    let mut command = crate::life::child::tidegate();
    command.arg("-c").arg(&file).args(["--log-form", "json"]);
    let mut child = command.spawn().unwrap();
    let lines = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut lines = std::io::BufRead::lines(lines).map_while(Result::ok);
    let line = lines.find(|line| line.contains("\"serving\"")).expect("it serves");
    child.kill().unwrap();
    child.wait().unwrap();
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["admin"], at.as_str());
}
