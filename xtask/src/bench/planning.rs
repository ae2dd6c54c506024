//! How long it takes from the arrival of a change until it is planned, as the proxy itself counts it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::cluster::Cluster;
use super::control_plane::ControlPlane;
use crate::field::Field;
use bench::figure::{Figure, Figures, Goal};

const CHANGES: u32 = 300;
const METRIC: &str = "fairlead_planning_duration_seconds_bucket{ip_family=\"IPv4\",le=\"";
const METRICS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 10249);

/// A change is left alone for so long: asking for metrics is work too, and must not stand in its way.
const ASK_PERIOD: Duration = Duration::from_millis(25);

/// A change is seen by the proxy within this, or never.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many took no longer than each bound, in seconds; the last bound is infinite.
type Buckets = Vec<(f64, u32)>;

/// Changes one endpoint of the last Service, again and again, each time once the change before is planned.
pub(super) fn measure(field: &Field, cluster: &mut Cluster, figures: &mut Figures) -> Result<()> {
    let before = field.node.run(buckets)??;
    for number in 1..=CHANGES {
        let change = cluster.changed_object();
        ControlPlane::fill([change].into_iter())?;
        let start = Instant::now();
        let mut planned = 0;
        while planned < count(&before) + number {
            ensure!(start.elapsed() < PATIENCE, "change {number} was never planned");
            thread::sleep(ASK_PERIOD);
            planned = count(&field.node.run(buckets)??);
        }
    }
    let after = field.node.run(buckets)??;
    let since = |bound: f64| before.iter().find(|(same, _)| bound.total_cmp(same).is_eq());
    let counted: Buckets = after
        .into_iter()
        .map(|(bound, count)| (bound, count - since(bound).map_or(0, |(_, before)| *before)))
        .collect();
    for (percent, goal) in [(50, None), (99, Some(Goal::AtMost(1.0)))] {
        let bound = quantile(&counted, f64::from(percent) / 100.0).context("changes were counted")?;
        let size = cluster.size();
        let name = format!("event received to plan ready, p{percent}, 1 endpoint changed, {size} Services");
        figures.add(Figure::new(name, "ms at most", bound * 1000.0).goal(goal))?;
    }
    Ok(())
}

/// The bound under which that share of all is.
fn quantile(buckets: &Buckets, share: f64) -> Option<f64> {
    let all = f64::from(count(buckets));
    let (bound, _) = buckets.iter().find(|(_, count)| f64::from(*count) >= share * all)?;
    (all > 0.0).then_some(*bound)
}

fn count(buckets: &Buckets) -> u32 {
    buckets.last().map_or(0, |(_, count)| *count)
}

/// As the proxy tells them, in the namespace of the calling thread. Before the first change it tells none.
fn buckets() -> Result<Buckets> {
    let mut stream = TcpStream::connect_timeout(&METRICS, PATIENCE)?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    ensure!(text.starts_with("HTTP/1.1 200"), "no metrics: {text}");
    read(&text).context("the metrics are not as they should be")
}

fn read(text: &str) -> Option<Buckets> {
    let of_ours = text.lines().filter_map(|line| line.strip_prefix(METRIC));
    of_ours
        .map(|rest| {
            let (bound, count) = rest.split_once("\"} ")?;
            Some((bound.parse().ok()?, count.parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{METRIC, quantile, read};

    #[test]
    fn the_bound_of_nearly_all_is_told() {
        let text = |counts: [u32; 3]| {
            let bounds = ["0.0005", "0.001", "+Inf"];
            let lines =
                bounds.iter().zip(counts).map(|(bound, count)| format!("{METRIC}{bound}\"}} {count}\n"));
            lines.collect::<String>()
        };
        for (counts, expected) in [
            ([99, 100, 100], Some(0.0005)),
            ([98, 99, 100], Some(0.001)),
            ([98, 98, 100], Some(f64::INFINITY)),
            ([0, 0, 0], None),
        ] {
            assert_eq!(quantile(&read(&text(counts)).expect("buckets"), 0.99), expected, "{counts:?}");
        }
        assert_eq!(read("fairlead_other 1\n"), Some(Vec::new()));
    }
}
