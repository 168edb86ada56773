//! `tidegate top` in a terminal of its own: what it shows, what keys do, and that the terminal is as
//! it was whichever way it ends.
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use serde_json::Value;
use tidegate::simulate::{Options, Simulator, start};

use crate::support::app::App;
use crate::support::client::{ask, request};
use crate::support::until;

const PLAIN: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
const LEAVE: &str = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l";

/// The program in front of a simulator, with one agent that has called.
async fn instance() -> (App, Simulator) {
    let simulator = start(Options { listen: ([127, 0, 0, 1], 0).into(), ..Options::default() });
    let simulator = simulator.unwrap();
    let app = App::start(&format!(
        "prices: {{ m: {{ input: 1000, output: 1000 }} }}\n\
         upstreams: {{ up: {{ pacing: off, url: 'http://{}' }} }}\nroutes: [{{ to: up }}]\n\
         policies: [{{ limits: {{ requests: 4/day calendar }} }}]\n",
        simulator.addr
    ));
    let lines = "content-type: application/json\r\nx-agent-id: researcher\r\n";
    for _ in 0..3 {
        let call = request("POST", "/v1/chat/completions", lines, PLAIN);
        assert_eq!(ask(app.addr, &call).await.status, 200);
    }
    app.lines(3).await;
    (app, simulator)
}

/// A terminal with `tidegate top` in it.
struct Tty {
    master: File,
    /// Kept open: how it is set is read when the program has ended.
    slave: File,
    child: Child,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Tty {
    fn start(app: &App, (columns, rows): (u16, u16), environment: &[(&str, &str)]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let no_ctty = rustix::fs::OFlags::NOCTTY.bits().cast_signed();
        let slave =
            OpenOptions::new().read(true).write(true).custom_flags(no_ctty).open(name).unwrap();
        let master = File::from(master);
        resize(&master, columns, rows);
        let child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(["top", "--interval", "100ms", "--admin", &app.admin.to_string()])
            .env_remove("NO_COLOR")
            .envs(environment.iter().copied())
            .stdin(slave.try_clone().unwrap())
            .stdout(slave.try_clone().unwrap())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (mut from, into) = (master.try_clone().unwrap(), Arc::clone(&shown));
        // ends with the process: the terminal is held open to the end
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut bytes) {
                into.lock().extend_from_slice(&bytes[..count]);
            }
        });
        Self { master, slave, child, shown }
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock()).into_owned()
    }

    /// The last frame that was drawn whole, line by line.
    fn frame(&self) -> String {
        let shown = self.shown();
        let whole = shown.rfind("\x1b[J").map_or("", |end| &shown[..end]);
        whole.rsplit("\x1b[H").next().unwrap_or("").replace("\x1b[K", "")
    }

    async fn until_shown(&self, what: &str) {
        until(&format!("it shows {what}: {:?}", self.frame()), async || {
            self.frame().contains(what)
        })
        .await;
    }

    fn press(&mut self, keys: &[u8]) {
        self.master.write_all(keys).unwrap();
    }

    /// Waits for its end: the terminal is as it was.
    async fn end(mut self) -> ExitStatus {
        until("it ends", async || self.child.try_wait().unwrap().is_some()).await;
        until("the screen is left", async || self.shown().ends_with(LEAVE)).await;
        let modes = tcgetattr(&self.slave).unwrap().local_modes;
        let wanted = LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG | LocalModes::IEXTEN;
        assert!(modes.contains(wanted), "{modes:?}");
        self.child.wait().unwrap()
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        // a test that fails leaves nothing behind
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn resize(master: &File, columns: u16, rows: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(master, size).unwrap();
}

#[tokio::test]
async fn a_terminal_shows_who_calls_takes_keys_and_is_left_as_it_was() {
    let (app, _simulator) = instance().await;
    let mut tty = Tty::start(&app, (100, 30), &[]);
    tty.until_shown("researcher").await;
    tty.until_shown("75% requests").await;
    assert!(tty.frame().contains("\x1b[33m██████░░"), "{:?}", tty.frame());
    let modes = tcgetattr(&tty.slave).unwrap().local_modes;
    assert!(!modes.intersects(LocalModes::ECHO | LocalModes::ISIG), "{modes:?}");
    tty.press(b"s");
    tty.until_shown("by tokens").await;
    tty.press(b"p");
    tty.until_shown("\x1b[33mpaused").await;
    tty.press(b"p");
    for (columns, rows) in [(40, 10), (200, 60)] {
        resize(&tty.master, columns, rows);
        until("it fits", async || tty.frame().matches("\r\n").count() == usize::from(rows) - 1)
            .await;
    }
    resize(&tty.master, 40, 8);
    until("it fits", async || tty.frame().matches("\r\n").count() == 7).await;
    assert!(!tty.frame().contains("researcher"), "it is below");
    tty.press(b"\x1b[B\x1b[B\x1b[Bj");
    tty.until_shown("researcher").await;
    tty.press(b"q");
    assert!(tty.end().await.success());
}

#[tokio::test]
async fn a_lost_instance_is_waited_for_and_every_end_restores() {
    let (mut app, _simulator) = instance().await;
    let mut ended: Vec<ExitStatus> = Vec::new();
    let mut control = Tty::start(&app, (80, 24), &[]);
    control.until_shown("researcher").await;
    control.press(b"\x03");
    ended.push(control.end().await);
    for signal in ["TERM", "HUP", "INT"] {
        let tty = Tty::start(&app, (80, 24), &[]);
        tty.until_shown("researcher").await;
        let id = tty.child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &id]).status().unwrap().success());
        ended.push(tty.end().await);
    }
    let mut tty = Tty::start(&app, (80, 24), &[("NO_COLOR", "1")]);
    tty.until_shown("researcher").await;
    app.kill();
    tty.until_shown("lost, retrying").await;
    assert!(tty.frame().contains("researcher"), "what was seen last stays");
    tty.press(b"q");
    let shown = Arc::clone(&tty.shown);
    ended.push(tty.end().await);
    assert!(ended.iter().all(ExitStatus::success), "{ended:?}");
    let shown = String::from_utf8_lossy(&shown.lock()).replace(LEAVE, "");
    let coloured = shown.split("\x1b[").skip(1).any(|rest| {
        rest.split(|c: char| c.is_ascii_alphabetic())
            .next()
            .is_some_and(|code| rest.as_bytes().get(code.len()) == Some(&b'm'))
    });
    assert!(!coloured, "{shown:?}");
}

#[tokio::test]
async fn without_a_terminal_it_says_everything_once() {
    let (app, _simulator) = instance().await;
    let top = |more: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(["top", "--interval", "100ms", "--admin", &app.admin.to_string()])
            .args(more)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let text = top(&[]);
    assert!(text.contains("researcher") && text.contains("req/s"), "{text}");
    assert!(!text.contains('\x1b'), "{text:?}");
    let told: Value = serde_json::from_str(&top(&["--json"])).unwrap();
    let spent = app.metric("tidegate_spend_dollars_total", &[]);
    assert_eq!(told["figures"]["spend_dollars"].as_f64(), Some(spent));
    assert_eq!(told["figures"]["requests_per_second"].as_f64(), Some(0.0));
    assert_eq!((&told["stage"], &told["agents"][0]["calls"]), (&"serving".into(), &3.into()));
    let nobody = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["top", "--once", "--admin", "127.0.0.1:1"])
        .output()
        .unwrap();
    assert_eq!(nobody.status.code(), Some(3));
}
