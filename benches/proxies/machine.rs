//! What the machine knows about a process: CPU, wake-ups and memory from /proc, and which CPUs,
//! limits and tools there are.
//!
//! A process is always taken with its children (nginx works in one). A figure that /proc does not
//! give is zero.
use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What a process and its children have used.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Usage {
    /// On a CPU, user and system together, over all threads.
    pub cpu_ns: u64,
    /// By the kernel's clock ticks: good for the proportion of the two only.
    pub user_ticks: u64,
    pub system_ticks: u64,
    /// Times a thread went to sleep of its own will, and had to be woken.
    pub wakeups: u64,
}

impl Usage {
    pub fn of(process: Option<u32>) -> Self {
        let mut sum = Self::default();
        for pid in process.map(tree).unwrap_or_default() {
            let stat = read(&format!("/proc/{pid}/stat").into());
            // The name in brackets may hold spaces.
            let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
            sum.user_ticks += number(fields, 11);
            sum.system_ticks += number(fields, 12);
            for task in tasks(pid) {
                sum.cpu_ns += number(&read(&task.join("schedstat")), 0);
                sum.wakeups += field(&task.join("status"), "voluntary_ctxt_switches:");
            }
        }
        sum
    }

    pub fn since(self, before: Self) -> Self {
        Self {
            cpu_ns: self.cpu_ns.saturating_sub(before.cpu_ns),
            user_ticks: self.user_ticks.saturating_sub(before.user_ticks),
            system_ticks: self.system_ticks.saturating_sub(before.system_ticks),
            wakeups: self.wakeups.saturating_sub(before.wakeups),
        }
    }
}

/// Resident memory of a process and its children, in bytes. What they share counts in each.
pub fn rss(pid: u32) -> u64 {
    tree(pid).iter().map(|pid| field(&format!("/proc/{pid}/status").into(), "VmRSS:") * 1024).sum()
}

fn tree(root: u32) -> Vec<u32> {
    let mut pids = vec![root];
    let mut at = 0;
    while let Some(&pid) = pids.get(at) {
        for task in tasks(pid) {
            let children = read(&task.join("children"));
            pids.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        at += 1;
    }
    pids
}

fn tasks(pid: u32) -> Vec<PathBuf> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    tasks.filter_map(|task| Some(task.ok()?.path())).collect()
}

fn read(path: &PathBuf) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The word at `index` as a number.
fn number(text: &str, index: usize) -> u64 {
    text.split_whitespace().nth(index).and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// The number behind `name` at a line's start.
fn field(path: &PathBuf, name: &str) -> u64 {
    let text = read(path);
    text.lines().find_map(|line| line.strip_prefix(name)).map_or(0, |rest| number(rest, 0))
}

/// Which CPU does what. `None`: nothing is pinned.
#[derive(Debug, Clone)]
pub struct Pins {
    pub proxy: Option<String>,
    /// For peers with two workers.
    pub wide: Option<String>,
    pub load: Option<String>,
    pub backend: Option<String>,
}

impl Pins {
    /// The proxy has a CPU for itself; load and backend share the second when there are only two.
    pub fn choose() -> Self {
        let cpus = cpus();
        let nth = |n: usize| cpus.get(n).or(cpus.get(1)).map(ToString::to_string);
        if cpus.len() < 2 || tool("taskset").is_none() {
            return Self { proxy: None, wide: None, load: None, backend: None };
        }
        let wide = [Some(cpus[0].to_string()), nth(3)];
        Self {
            proxy: Some(cpus[0].to_string()),
            wide: Some(wide.into_iter().flatten().collect::<Vec<_>>().join(",")),
            load: nth(1),
            backend: nth(2),
        }
    }
}

/// The CPUs that this process may use.
fn cpus() -> Vec<u32> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let ranges = list.unwrap_or_default().trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse().ok()?..=last.parse().ok()?)
    });
    ranges.flatten().collect()
}

/// Files that a process may have open, at most.
pub fn open_files() -> u64 {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    number(line.unwrap_or_default(), 1)
}

/// The mean number of running processes over the last minute.
pub fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(f64::NAN)
}

pub fn describe() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{} × {}, Linux {}", cpus().len(), model.map_or("CPU", |(_, name)| name), kernel.trim())
}

/// Where a program is, by PATH and the places of daemons.
pub fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/bin".into()])
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}
