//! Pods that die and are replaced, orphans, and what a signal to pause does.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kernel_io::netns::Netns;
use kernel_io::process::Signal;

use super::super::http;
use super::super::manifests::PodRecord;
use super::super::report::Report;
use super::super::stage::{Endpoint, NODE, NODE_PORT, Stage, until};
use super::super::table::Table;
use super::process_table;

/// A request: when it was sent, and who answered.
type Request = (Instant, Option<String>);

/// When what happened.
struct Times {
    killed: Instant,
    gone: Instant,
    replaced: Instant,
    followed: Duration,
}

pub(in crate::demo) fn replace_a_pod(stage: &mut Stage, report: &mut Report) -> Result<()> {
    report.step("A pod is killed and replaced, under requests")?;
    let from_pod = ("a pod", stage.pod("api-1")?.sandbox.netns()?, "10.96.0.10:80".parse()?);
    let from_outside = ("outside", stage.outside.clone(), SocketAddr::new(NODE.into(), NODE_PORT));
    let stop = AtomicBool::new(false);
    let (requests, times) = thread::scope(|scope| -> Result<_> {
        let stop = &stop;
        let clients = [from_pod, from_outside]
            .map(|(from, netns, at)| (from, scope.spawn(move || ask_until(stop, &netns, at))));
        let times = kill_and_replace(stage);
        stop.store(true, Ordering::Relaxed);
        let asked = clients.map(|(from, client)| (from, client.join()));
        let mut requests = Vec::new();
        for (from, asked) in asked {
            requests.push((from, asked.ok().context("the client runs to its end")??));
        }
        Ok((requests, times?))
    })?;
    let mut table =
        Table::new(["from", "requests", "lost while the dead pod was listed", "lost after", "by web-5"]);
    for (from, requests) in &requests {
        let lost = |in_time: &dyn Fn(&Instant) -> bool| {
            requests.iter().filter(|(sent, by)| by.is_none() && in_time(sent)).count()
        };
        let after = lost(&|sent| *sent >= times.gone);
        let by_new = requests.iter().filter(|(_, by)| by.as_deref() == Some("web-5")).count();
        let before = lost(&|sent| *sent < times.gone);
        table.row([(*from).into(), requests.len().into(), before.into(), after.into(), by_new.into()]);
        ensure!(after == 0, "{after} requests from {from} were lost after the endpoint was gone");
        ensure!(by_new > 0, "the new pod answered none of the requests from {from}");
    }
    report.table(&table)?;
    report.remark(&format!(
        "web-2 was killed at 0 ms; its endpoint was gone from the rules at {} ms, {} ms after its file was written;",
        (times.gone - times.killed).as_millis(),
        times.followed.as_millis()
    ))?;
    report.remark(&format!("web-5 was there at {} ms.", (times.replaced - times.killed).as_millis()))?;
    report.proves("no request is lost once the endpoint is gone, and the new pod is used at once")
}

fn kill_and_replace(stage: &mut Stage) -> Result<Times> {
    thread::sleep(Duration::from_millis(300));
    let killed = Instant::now();
    let mut pod = stage.pods.remove("web-2").context("there is a pod web-2")?;
    pod.sandbox.pause().context("pause runs")?.signal(Signal::KILL)?;
    pod.sandbox.remove()?;
    // Until the controller notices, the Service still leads to the dead pod.
    thread::sleep(Duration::from_millis(200));
    stage.manifests.remove(&pod.record)?;
    let followed = stage.await_endpoint(&pod.record, Endpoint::Gone)?;
    let gone = Instant::now();
    let new = PodRecord { name: "web-5".to_owned(), address: "10.244.0.15".parse()? };
    stage.start_pod(&new)?;
    stage.manifests.add("web", &new)?;
    stage.await_endpoint(&new, Endpoint::Present)?;
    let replaced = Instant::now();
    thread::sleep(Duration::from_millis(500));
    Ok(Times { killed, gone, replaced, followed })
}

/// Asks again and again.
fn ask_until(stop: &AtomicBool, netns: &Netns, at: SocketAddr) -> Result<Vec<Request>> {
    Ok(netns.run(|| {
        let mut requests = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let sent = Instant::now();
            requests.push((sent, http::get(at).ok().map(|answer| answer.pod)));
            thread::sleep(Duration::from_millis(1));
        }
        requests
    })?)
}

pub(in crate::demo) fn reap_an_orphan(stage: &Stage, report: &mut Report) -> Result<()> {
    report.step("An orphan is reaped by pause")?;
    let pod = stage.pod("web-1")?;
    pod.shell("sleep 1 & exit 0")?;
    let (before, _) = process_table(pod)?;
    report.table(&before)?;
    report.remark(
        "The shell that started sleep has ended, so sleep is a child of process 1 now. It ends, and then:",
    )?;
    let sleeps =
        || pod.processes().is_ok_and(|processes| processes.iter().any(|cells| cells[3].contains("sleep")));
    ensure!(sleeps(), "the orphan is not there");
    until("the orphan is gone", || !sleeps())?;
    let (after, zombies) = process_table(pod)?;
    report.table(&after)?;
    ensure!(zombies == 0, "{zombies} zombies are left");
    report.proves("pause reaps what nobody else waits for: no zombie is left")
}

pub(in crate::demo) fn kill_pause(stage: &mut Stage, report: &mut Report) -> Result<()> {
    report.step("SIGKILL to pause, from inside the pod and from outside")?;
    let mut table = Table::new(["who", "does", "pause", "processes left in the pod"]);
    let pod = stage.pod("api-4")?;
    pod.shell("kill -9 1")?;
    thread::sleep(Duration::from_millis(100));
    ensure!(pod.sandbox.pause().is_some(), "pause was killed from inside");
    let left = pod.sandbox.processes()?.len();
    ensure!(left == 3, "{left} processes are left");
    table.row(["a container of api-4".into(), "kill -9 1".into(), "lives".into(), left.into()]);
    let pause = pod.sandbox.pause().context("pause runs")?;
    pause.signal(Signal::KILL)?;
    ensure!(pause.ends_within(Duration::from_secs(5)), "pause does not end when killed");
    until("the pod's processes end", || pod.sandbox.processes().is_ok_and(|pids| pids.is_empty()))?;
    table.row(["the node".into(), format!("kill -9 {}", pause.pid()).into(), "ends".into(), 0.into()]);
    report.table(&table)?;
    report.proves("process 1 is safe from its own pod, and when it dies the whole pod dies with it")
}
