//! What the kernel and the control group give: descriptors, queues, ports, memory.
use std::fs;
use std::num::NonZero;

use super::finding::Finding;
use crate::app::descriptors::Descriptors;
use crate::config::Config;
use crate::pressure::cgroup;
use crate::units::show_size;

/// Shortest queue of new connections that does not overflow in a burst.
const QUEUE: u64 = 1024;
/// Fewest ports for connections to backends: each that is closed holds one for a minute.
const PORTS: u64 = 10_000;

pub(super) fn findings(config: &Config) -> Vec<Finding> {
    let workers = std::thread::available_parallelism().map_or(1, NonZero::get);
    let given = Descriptors::raise(workers);
    let read = |path| fs::read_to_string(path).ok();
    [
        Some(descriptors(given, config.server.max_connections)),
        read("/proc/sys/net/core/somaxconn").and_then(|text| queue(&text)),
        read("/proc/sys/net/ipv4/ip_local_port_range").and_then(|text| local_ports(&text)),
        Some(memory(
            config.server.memory,
            cgroup::ceiling(),
            read("/proc/meminfo").and_then(|text| available(&text)),
        )),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn descriptors(given: Descriptors, wanted: usize) -> Finding {
    const CHECK: &str = "descriptors";
    let limit = given.limit.map_or_else(|| "no bound".to_owned(), |limit| limit.to_string());
    if given.connections >= wanted {
        let says = format!("{limit} file descriptors: enough for {wanted} connections");
        return Finding::ok(CHECK, says);
    }
    let says = format!(
        "{limit} file descriptors: {} connections instead of server.max_connections, {wanted}",
        given.connections
    );
    let advice = format!(
        "LimitNOFILE={0} in the unit, `ulimit -Hn {0}`, or --ulimit nofile={0} of the container",
        (wanted * 2 + 1024).next_power_of_two()
    );
    Finding::warn(CHECK, says, advice)
}

fn queue(text: &str) -> Option<Finding> {
    const CHECK: &str = "kernel";
    let length: u64 = text.trim().parse().ok()?;
    let says = format!("net.core.somaxconn is {length}");
    if length >= QUEUE {
        return Some(Finding::ok(CHECK, says));
    }
    let says = format!("{says}: a burst of new connections is refused beyond that");
    Some(Finding::warn(CHECK, says, "sysctl -w net.core.somaxconn=4096"))
}

fn local_ports(text: &str) -> Option<Finding> {
    const CHECK: &str = "kernel";
    let mut ends = text.split_whitespace().map(str::parse::<u64>);
    let (low, high) = (ends.next()?.ok()?, ends.next()?.ok()?);
    let count = (high + 1).saturating_sub(low);
    let says = format!("{count} ports for connections to backends");
    if count >= PORTS {
        return Some(Finding::ok(CHECK, says));
    }
    let advice = "sysctl -w net.ipv4.ip_local_port_range='32768 60999'";
    Some(Finding::warn(CHECK, format!("{says}: each one address may run out"), advice))
}

/// `ceiling`: what calls may hold of the control group; `available`: what the machine has left.
fn memory(wanted: u64, ceiling: Option<u64>, available: Option<u64>) -> Finding {
    const CHECK: &str = "memory";
    let says = format!("server.memory is {}", show_size(wanted));
    match (ceiling, available) {
        (Some(ceiling), _) if ceiling < wanted => {
            let says = format!(
                "{says}, but the control group leaves calls no more than {}",
                about(ceiling)
            );
            Finding::warn(CHECK, says, "raise the container's limit, or lower server.memory")
        }
        (_, Some(available)) if available < wanted => {
            let says = format!("{says}, but the machine has {} left", about(available));
            Finding::warn(CHECK, says, "lower server.memory, or make room: it would swap, or die")
        }
        (Some(ceiling), _) => {
            Finding::ok(CHECK, format!("{says}, of {} that the group allows", about(ceiling)))
        }
        (None, Some(available)) => {
            Finding::ok(CHECK, format!("{says}, of {} that are left", about(available)))
        }
        (None, None) => Finding::skip(CHECK, format!("{says}; the machine does not tell its own")),
    }
}

fn about(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// `MemAvailable` of `/proc/meminfo`, in bytes.
fn available(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict::{Fail, Ok, Skip, Warn};
    use super::*;

    #[test]
    fn too_few_of_anything_is_a_warning_with_a_way_out() {
        let given = |limit, connections| Descriptors { limit, connections };
        let few = descriptors(given(Some(1024), 464), 10_000);
        assert_eq!(few.verdict, Warn);
        assert!(few.says.contains("464") && few.advice.contains("LimitNOFILE=32768"), "{few:?}");
        assert_eq!(descriptors(given(None, usize::MAX), 10_000).verdict, Ok);

        assert_eq!(queue("4096\n").map(|it| it.verdict), Some(Ok));
        assert_eq!(queue("128\n").map(|it| it.verdict), Some(Warn));
        assert_eq!(local_ports("32768\t60999\n").map(|it| it.verdict), Some(Ok));
        assert_eq!(local_ports("60000\t60999\n").map(|it| it.verdict), Some(Warn));
        assert_eq!((queue("?"), local_ports("1")), (None, None));
    }

    #[test]
    fn the_tighter_bound_on_memory_is_told() {
        let wanted = 512 << 20;
        assert_eq!(memory(wanted, Some(100 << 20), Some(8 << 30)).verdict, Warn);
        assert_eq!(memory(wanted, None, Some(100 << 20)).verdict, Warn);
        assert_eq!(memory(wanted, Some(1 << 30), Some(8 << 30)).verdict, Ok);
        assert_eq!(memory(wanted, None, None).verdict, Skip);
        assert!(memory(wanted, Some(100 << 20), None).verdict < Fail);
        assert_eq!(available("MemTotal: 1 kB\nMemAvailable:   2048 kB\n"), Some(2 << 20));
    }
}
