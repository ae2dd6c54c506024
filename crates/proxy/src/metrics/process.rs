//! What the kernel knows of this process, under the names that all Prometheus clients have for it.

use std::fs;
use std::time::{Duration, SystemTime};

use prometheus::{Counter, Gauge, IntGauge, Registry};
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

use super::{registered, seconds};

/// Looked up when somebody asks.
pub(super) struct Process {
    cpu: Counter,
    open_files: IntGauge,
    max_files: IntGauge,
    resident: IntGauge,
    virtual_memory: IntGauge,
}

impl Process {
    pub(super) fn new(registry: &Registry) -> Self {
        let gauge = |name: &str, help: &str| registered(registry, IntGauge::new(name, help));
        let started = Gauge::new("process_start_time_seconds", "When this process started, since 1970.");
        registered(registry, started).set(seconds(started_at()));
        Self {
            cpu: registered(
                registry,
                Counter::new("process_cpu_seconds_total", "Time of the processors that it took."),
            ),
            open_files: gauge("process_open_fds", "Open file descriptors."),
            max_files: gauge("process_max_fds", "How many file descriptors it may open."),
            resident: gauge("process_resident_memory_bytes", "Memory that it has."),
            virtual_memory: gauge("process_virtual_memory_bytes", "Memory that it asked for."),
        }
    }

    /// Looks. What cannot be read stays as it was.
    pub(super) fn look(&self) {
        if let Some(fields) = stat() {
            let field = |number: usize| fields.get(number).and_then(|field| field.parse::<u64>().ok());
            let (user, system) =
                (field(USER_TIME).unwrap_or_default(), field(SYSTEM_TIME).unwrap_or_default());
            let spent = ticks(user + system).as_secs_f64();
            self.cpu.inc_by((spent - self.cpu.get()).max(0.0));
            let bytes = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
            self.virtual_memory.set(bytes(field(VIRTUAL_MEMORY).unwrap_or_default()));
            let page = u64::try_from(page_size()).unwrap_or_default();
            self.resident.set(bytes(field(RESIDENT_PAGES).unwrap_or_default().saturating_mul(page)));
        }
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            // One of them is the directory's own.
            self.open_files.set(i64::try_from(files.count().saturating_sub(1)).unwrap_or(i64::MAX));
        }
        let limit = getrlimit(Resource::Nofile).current;
        self.max_files.set(limit.map_or(i64::MAX, |limit| i64::try_from(limit).unwrap_or(i64::MAX)));
    }
}

// Places in /proc/self/stat (proc_pid_stat(5)), counted from the field after the name.
const USER_TIME: usize = 11;
const SYSTEM_TIME: usize = 12;
const START_TIME: usize = 19;
const VIRTUAL_MEMORY: usize = 20;
const RESIDENT_PAGES: usize = 21;

fn stat() -> Option<Vec<String>> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    // A name may hold anything, but the last parenthesis ends it.
    let (_, fields) = text.rsplit_once(") ")?;
    Some(fields.split_ascii_whitespace().map(str::to_owned).collect())
}

fn ticks(count: u64) -> Duration {
    let per_second = clock_ticks_per_second().max(1);
    Duration::from_millis(count.saturating_mul(1000) / per_second)
}

/// When this process started; now, if the kernel does not tell.
fn started_at() -> SystemTime {
    let now = SystemTime::now();
    let uptime = || {
        let text = fs::read_to_string("/proc/uptime").ok()?;
        text.split_ascii_whitespace().next()?.parse::<f64>().ok()
    };
    let start = || stat()?.get(START_TIME)?.parse::<u64>().ok();
    let age =
        uptime().zip(start()).map(|(up, start)| Duration::from_secs_f64(up).saturating_sub(ticks(start)));
    age.and_then(|age| now.checked_sub(age)).unwrap_or(now)
}
