//! How much memory the control group of this process allows (Linux, versions 1 and 2): a container
//! is killed beyond it, however much the machine has.
//!
//! Read once. The tightest bound on the way up counts; what cannot be read bounds nothing.
use std::fs;
use std::path::{Component, Path};

/// Of what the group allows, the share that calls may hold: the rest is for code, stacks,
/// connections, the cache, and what the allocator keeps between.
const SHARE: u64 = 60;
/// Version 1 says "no bound" as a number near the largest.
const UNBOUNDED: u64 = 1 << 60;

/// The most that calls may hold, in bytes. `None`: nothing bounds it.
pub fn ceiling() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let most = limit(&groups, Path::new("/sys/fs/cgroup"))?;
    Some(most / 100 * SHARE)
}

/// The tightest bound on the groups that the kernel's list names, below that mount.
fn limit(groups: &str, mount: &Path) -> Option<u64> {
    groups.lines().filter_map(|line| of_group(line, mount)).min()
}

/// `0::/kubepods/pod1` (version 2), `9:memory:/docker/1` (version 1).
fn of_group(line: &str, mount: &Path) -> Option<u64> {
    let mut parts = line.splitn(3, ':');
    let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let (mount, file) = match controllers {
        "" => (mount.to_owned(), "memory.max"),
        one if one.split(',').any(|one| one == "memory") => {
            (mount.join("memory"), "memory.limit_in_bytes")
        }
        _ => return None,
    };
    // inside a container the path may be the host's, or lead out: then only the mount itself counts
    let group = Path::new(path.trim_start_matches('/'));
    let inside = group.components().all(|part| matches!(part, Component::Normal(_)));
    let group = if inside { group } else { Path::new("") };
    let bounds = group.ancestors().filter_map(|at| {
        let text = fs::read_to_string(mount.join(at).join(file)).ok()?;
        // "max" is no number
        text.trim().parse().ok().filter(|bytes| *bytes < UNBOUNDED)
    });
    bounds.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(mount: &Path, at: &str, text: &str) {
        let file = mount.join(at);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    #[test]
    fn the_tightest_bound_on_the_way_up_counts() {
        let mount = tempfile::tempdir().unwrap();
        let mount = mount.path();
        write(mount, "pods/one/memory.max", "max\n");
        write(mount, "pods/memory.max", "268435456\n");
        assert_eq!(limit("0::/pods/one\n", mount), Some(256 << 20));
        write(mount, "pods/one/memory.max", "67108864\n");
        assert_eq!(limit("0::/pods/one\n", mount), Some(64 << 20));
    }

    #[test]
    fn a_container_sees_its_own_mount_alone() {
        let mount = tempfile::tempdir().unwrap();
        write(mount.path(), "memory.max", "1000000\n");
        assert_eq!(limit("0::/../../host/only\n", mount.path()), Some(1_000_000));
        assert_eq!(limit("0::/host/only\n", mount.path()), Some(1_000_000));
        assert_eq!(limit("0::/\n", mount.path()), Some(1_000_000));
    }

    #[test]
    fn version_one_is_read_as_well() {
        let mount = tempfile::tempdir().unwrap();
        let mount = mount.path();
        write(mount, "memory/docker/1/memory.limit_in_bytes", "4096000\n");
        write(mount, "memory/memory.limit_in_bytes", "9223372036854771712\n");
        let groups = "12:cpu,cpuacct:/docker/1\n9:memory:/docker/1\n1:name=systemd:/x\n";
        assert_eq!(limit(groups, mount), Some(4_096_000));
        write(mount, "memory/docker/1/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(limit(groups, mount), None);
    }

    #[test]
    fn what_cannot_be_read_bounds_nothing() {
        let mount = tempfile::tempdir().unwrap();
        for groups in ["", "\n", "0:\n", "nonsense", "0::/\n", "1:cpu:/\n"] {
            assert_eq!(limit(groups, mount.path()), None, "{groups:?}");
        }
        write(mount.path(), "memory.max", "a lot\n");
        assert_eq!(limit("0::/\n", mount.path()), None);
    }
}
