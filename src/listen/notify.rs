//! What a service manager is told (`sd_notify`): ready, reloading, stopping, a status line, and
//! the watchdog's sign of life.
//!
//! Without `NOTIFY_SOCKET` everything here does nothing. Telling is best effort and never waits:
//! a manager that does not listen must not hold up a proxy. The socket is opened by hand, not by
//! the crate `sd-notify`, which knows no abstract addresses (`@…`) and reads the environment at
//! each call; the crate gives the words and the monotonic time.
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sd_notify::NotifyState;

/// The line to the service manager, if there is one.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// Reads `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` through `env`. Fails if a socket
    /// is named that is not there; going on without it is the caller's choice.
    pub fn from_env(env: &dyn Fn(&str) -> Option<String>) -> io::Result<Self> {
        let Some(name) = env("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Ok(Self::default());
        };
        let address = match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.connect_addr(&address)?;
        let for_us = env("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let limit = env("WATCHDOG_USEC").and_then(|limit| limit.parse().ok());
        let watchdog = limit.filter(|limit| for_us && *limit > 0).map(Duration::from_micros);
        Ok(Self { socket: Some(socket), watchdog })
    }

    /// The sockets listen and calls are served; after a reload too.
    pub fn ready(&self, status: &str) {
        self.send(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
    }

    /// A reload begins; `ready` must follow, whatever came of it.
    pub fn reloading(&self) {
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            self.send(&[NotifyState::Reloading, now]);
        }
    }

    /// The end begins.
    pub fn stopping(&self, status: &str) {
        self.send(&[NotifyState::Stopping, NotifyState::Status(&one_line(status))]);
    }

    /// One line for `systemctl status`.
    pub fn status(&self, status: &str) {
        self.send(&[NotifyState::Status(&one_line(status))]);
    }

    /// Gives a sign of life twice in each watchdog period, but only while `alive` says that the
    /// accept loops turn. Never ends; waits for ever without a watchdog.
    pub async fn watchdog(&self, alive: impl Fn() -> bool) {
        let Some(limit) = self.watchdog else { return std::future::pending().await };
        let mut beat = tokio::time::interval(limit / 2);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            beat.tick().await;
            if alive() {
                self.send(&[NotifyState::Watchdog]);
            } else {
                tracing::error!("an accept loop stands still: the watchdog gets no sign of life");
            }
        }
    }

    fn send(&self, states: &[NotifyState<'_>]) {
        let Some(socket) = &self.socket else { return };
        let lines: Vec<_> = states.iter().map(ToString::to_string).collect();
        let message = lines.join("\n") + "\n";
        if let Err(error) = socket.send(message.as_bytes()) {
            tracing::warn!(%error, "the service manager cannot be told");
        }
    }
}

/// A line break would begin another assignment.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A manager's socket, and a notifier that talks to it.
    fn manager(name: &str, more: &[(&str, &str)]) -> (UnixDatagram, Notifier) {
        let address = SocketAddr::from_abstract_name(name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        manager.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let socket = format!("@{name}");
        let env = |variable: &str| {
            let given = more.iter().find(|(name, _)| *name == variable);
            given
                .map(|(_, value)| (*value).to_owned())
                .or_else(|| (variable == "NOTIFY_SOCKET").then(|| socket.clone()))
        };
        let notifier = Notifier::from_env(&env).unwrap();
        (manager, notifier)
    }

    fn received(manager: &UnixDatagram) -> String {
        let mut bytes = [0; 512];
        let length = manager.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn the_words_of_a_life() {
        let (manager, notifier) = manager("tidegate-test-life", &[]);
        notifier.ready("serving on\n127.0.0.1:8080");
        assert_eq!(received(&manager), "READY=1\nSTATUS=serving on 127.0.0.1:8080\n");
        notifier.reloading();
        let reloading = received(&manager);
        let time = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().trim_end();
        assert!(time.parse::<u64>().unwrap() > 0);
        notifier.stopping("draining");
        assert_eq!(received(&manager), "STOPPING=1\nSTATUS=draining\n");
    }

    #[test]
    fn a_socket_with_a_path_is_reached_too() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let env = |name: &str| (name == "NOTIFY_SOCKET").then(|| path.display().to_string());
        Notifier::from_env(&env).unwrap().status("well");
        assert_eq!(received(&manager), "STATUS=well\n");
    }

    #[test]
    fn a_socket_that_is_not_there_is_an_error_and_none_is_not() {
        let env = |name: &str| (name == "NOTIFY_SOCKET").then(|| "/nowhere/notify".to_owned());
        assert!(Notifier::from_env(&env).is_err());
        Notifier::from_env(&|_| None).unwrap().ready("nobody listens");
    }

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_hears_only_of_loops_that_turn() {
        let us = std::process::id().to_string();
        let period = [("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", us.as_str())];
        let (manager, notifier) = manager("tidegate-test-watchdog", &period);
        manager.set_nonblocking(true).unwrap();
        let turns = std::cell::Cell::new(true);
        let beats = || std::iter::from_fn(|| manager.recv(&mut [0; 64]).ok()).count();
        let wait = |seconds| {
            tokio::time::timeout(Duration::from_secs(seconds), notifier.watchdog(|| turns.get()))
        };
        assert!(wait(31).await.is_err());
        assert_eq!(beats(), 3, "at 0, 15 and 30 s");
        turns.set(false);
        assert!(wait(31).await.is_err());
        assert_eq!(beats(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_watchdog_for_another_process_is_not_ours() {
        let period = [("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", "1")];
        let (manager, notifier) = manager("tidegate-test-other", &period);
        manager.set_nonblocking(true).unwrap();
        let hour = Duration::from_hours(1);
        assert!(tokio::time::timeout(hour, notifier.watchdog(|| true)).await.is_err());
        assert!(manager.recv(&mut [0; 64]).is_err());
    }
}
