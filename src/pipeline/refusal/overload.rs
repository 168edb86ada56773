//! Refusals for want of memory or descriptors: ours to answer for, and over soon.
use std::error::Error;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::time::Duration;

use http::StatusCode;
use rustix::io::Errno;

use super::{Refusal, Retry, Source};

impl Refusal {
    /// More is held in memory than the policy allows, or the call was cut to make room.
    pub fn overloaded() -> Self {
        Self::shed("This sidecar is at the bound of its memory. Please try again shortly.")
    }

    /// The same for a call whose body has not been read.
    pub fn overloaded_with(bodiless: bool) -> Self {
        if bodiless { Self::overloaded() } else { Self::overloaded().closing() }
    }

    /// There is no file descriptor left for a connection to the upstream, which is not to blame.
    pub fn no_descriptors() -> Self {
        Self::shed("This sidecar has no free connection left. Please try again shortly.")
    }

    fn shed(message: &'static str) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let mut refusal = Self::new(status, "overloaded", Source::Us, message);
        refusal.retry = Retry::After(soon());
        refusal
    }
}

/// One to three seconds: who was refused together does not come back together.
fn soon() -> Duration {
    let draw = RandomState::new().hash_one(0_u8) % 2001;
    Duration::from_millis(1000 + draw)
}

/// Whether there was no descriptor, or no memory of the kernel's, to be had for a connection.
pub fn ran_out(error: &(dyn Error + 'static)) -> bool {
    let ours = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM].map(Errno::raw_os_error);
    let code = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
    code.is_some_and(|code| ours.contains(&code)) || error.source().is_some_and(ran_out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::connect::ConnectError;

    #[test]
    fn who_was_refused_together_comes_back_one_by_one() {
        let waits: Vec<_> = (0..200).map(|_| soon()).collect();
        let (least, most) = (Duration::from_secs(1), Duration::from_secs(3));
        assert!(waits.iter().all(|wait| (least..=most).contains(wait)));
        let seconds = |from: u64| waits.iter().filter(|wait| wait.as_secs() == from).count();
        assert!(seconds(1) > 50 && seconds(2) > 50, "{waits:?}");
    }

    #[test]
    fn descriptors_that_ran_out_are_no_fault_of_the_upstream() {
        let io = |code| io::Error::from_raw_os_error(code);
        let error = |source| ConnectError::Io { at: "x:1".to_owned(), source };
        for code in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM] {
            assert!(ran_out(&error(io(code.raw_os_error()))), "{code:?}");
        }
        for code in [Errno::CONNREFUSED, Errno::HOSTUNREACH, Errno::ACCESS] {
            assert!(!ran_out(&error(io(code.raw_os_error()))), "{code:?}");
        }
        let at = || "x:1".to_owned();
        let dns = ConnectError::Dns { at: at(), source: io(Errno::MFILE.raw_os_error()) };
        assert!(ran_out(&dns), "resolving takes descriptors as well");
    }
}
