use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::mpsc::Receiver;
use std::time::Instant;

use proptest::prelude::*;
use service_plan::{EndpointSlice, Service, ServiceName, SliceName};
use tempfile::TempDir;

use super::*;
use crate::{Batch, Event, NodeObject};

/// What someone who listens knows.
#[derive(Clone, Debug, Default, PartialEq)]
struct Known {
    services: BTreeMap<ServiceName, Arc<Service>>,
    slices: BTreeMap<SliceName, Arc<EndpointSlice>>,
    node: Option<NodeObject>,
    ranges: Vec<ipnet::IpNet>,
    listed: usize,
}

impl Known {
    fn take(&mut self, batch: Batch) {
        for event in batch.events {
            match event {
                Event::Service(name, Some(service)) => drop(self.services.insert(name, service)),
                Event::Service(name, None) => drop(self.services.remove(&name).expect("a known Service")),
                Event::EndpointSlice(name, Some(slice)) => drop(self.slices.insert(name, slice)),
                Event::EndpointSlice(name, None) => drop(self.slices.remove(&name).expect("a known slice")),
                Event::Node(node) => self.node = node,
                Event::ServiceRanges(ranges) => self.ranges = ranges,
                Event::Listed => self.listed += 1,
                Event::Triggered(_) | Event::Awaited(_) => {}
            }
        }
    }

    /// `name=address` of all Services.
    fn services(&self) -> String {
        let texts =
            self.services.iter().map(|(name, service)| format!("{}={}", name.name, service.cluster_ips[0]));
        texts.collect::<Vec<_>>().join(" ")
    }
}

/// A watched directory.
struct Lab {
    root: TempDir,
    batches: Receiver<Batch>,
    known: Known,
    reports: Vec<Report>,
    watching: Watching,
}

impl Lab {
    fn new(files: &[(&str, &str)]) -> Self {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("manifests");
        fs::create_dir(&directory).unwrap();
        for (name, text) in files {
            write(&directory.join(name), text);
        }
        let (sender, batches) = mpsc::channel();
        let watching = Manifests::open(&directory, "node-1").unwrap().watch(sender).unwrap();
        let mut lab = Self { root, batches, known: Known::default(), reports: Vec::new(), watching };
        lab.wait("the first lists", |lab| lab.known.listed == 1);
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join("manifests").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        write(&self.path(name), text);
    }

    fn wait(&mut self, what: &str, reached: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !reached(self) {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(batch) = self.batches.recv_timeout(left) else {
                panic!("waited for {what}; known: {:?}; reports: {:?}", self.known, self.reports)
            };
            self.reports.extend(batch.reports.clone());
            self.known.take(batch);
        }
    }

    fn wait_for(&mut self, services: &str) {
        self.wait(services, |lab| lab.known.services() == services);
    }

    fn wait_for_report(&mut self, end: &str) {
        self.wait(end, |lab| lab.reports.iter().any(|report| report.to_string().ends_with(end)));
    }

    /// Nothing is told for a while.
    fn is_quiet(&self) {
        let batch = self.batches.recv_timeout(Duration::from_millis(300));
        assert!(batch.is_err(), "{batch:?}");
    }
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn service(name: &str, address: u8) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
         spec: {{clusterIP: 10.0.0.{address}, ports: [{{port: 80}}]}}\n"
    )
}

fn json_service(name: &str, address: u8) -> String {
    format!(
        r#"{{"apiVersion": "v1", "kind": "ServiceList", "items": [{{"metadata": {{"name": "{name}"}},
            "spec": {{"clusterIP": "10.0.0.{address}", "ports": [{{"port": 80}}]}}}}]}}"#
    )
}

fn fresh(directory: &Path) -> Known {
    let mut known = Known::default();
    known.take(Manifests::open(directory, "node-1").unwrap().read());
    known
}

#[test]
fn the_example_gives_two_services_with_four_pods_each() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/two-services");
    let mut manifests = Manifests::open(&example, "node-1").unwrap();
    let batch = manifests.read();
    assert_eq!(batch.reports, []);
    let mut known = Known::default();
    known.take(batch);
    assert_eq!(known.services(), "api=10.96.0.20 web=10.96.0.10");
    let pods: Vec<_> = known.slices.values().map(|slice| slice.endpoints.len()).collect();
    assert_eq!((pods, known.listed), (vec![4, 4], 1));
    assert!(manifests.read().is_empty());
}

#[test]
fn a_directory_that_cannot_be_read_is_refused_at_the_start() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    fs::write(&file, "").unwrap();
    for (path, end) in [
        (root.path().join("missing"), "No such file or directory (os error 2)"),
        (file, "Not a directory (os error 20)"),
    ] {
        let error = Manifests::open(&path, "node-1").expect_err("no directory");
        assert_eq!(error.to_string(), format!("cannot read manifests from {}", path.display()));
        assert_eq!(std::error::Error::source(&error).expect("a cause").to_string(), end);
    }
}

#[test]
fn an_empty_directory_is_listed() {
    let root = tempfile::tempdir().unwrap();
    let batch = Manifests::open(root.path(), "node-1").unwrap().read();
    assert_eq!(batch, Batch { events: vec![Event::Listed], ..Batch::default() });
}

#[test]
fn reading_again_tells_only_what_changed() {
    let root = tempfile::tempdir().unwrap();
    let mut manifests = Manifests::open(root.path(), " Node-1 ").unwrap();
    write(&root.path().join("a.yaml"), &service("web", 1));
    write(&root.path().join("n.yaml"), "{apiVersion: v1, kind: Node, metadata: {name: node-1}}");
    let mut known = Known::default();
    known.take(manifests.read());
    assert_eq!(known.services(), "web=10.0.0.1");
    assert!(known.node.is_some());
    // The same size, within the same tick of the clock.
    write(&root.path().join("a.yaml"), &service("web", 2));
    known.take(manifests.read());
    assert_eq!(known.services(), "web=10.0.0.2");
    assert!(manifests.read().is_empty());
    assert_eq!(known.listed, 1);
}

#[test]
fn a_directory_that_was_read_before_is_not_told_again_when_watched() {
    let root = tempfile::tempdir().unwrap();
    write(&root.path().join("a.yaml"), &service("web", 1));
    let mut manifests = Manifests::open(root.path(), "node-1").unwrap();
    assert_eq!(manifests.read().events.len(), 2);
    write(&root.path().join("b.yaml"), &service("api", 2));
    let (sender, batches) = mpsc::channel();
    let _watching = manifests.watch(sender).unwrap();
    let batch = batches.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(
        matches!(&batch.events[..], [Event::Service(name, Some(_))] if &*name.name == "api"),
        "{batch:?}"
    );
}

#[test]
fn files_are_followed_as_they_come_change_and_go() {
    let mut lab = Lab::new(&[("a.yaml", &service("web", 1))]);
    lab.wait_for("web=10.0.0.1");
    lab.write("b.json", &json_service("api", 2));
    lab.wait_for("api=10.0.0.2 web=10.0.0.1");
    lab.write("a.yaml", &service("web", 3));
    lab.wait_for("api=10.0.0.2 web=10.0.0.3");
    lab.write("c.yml", &(service("x", 4) + &service("y", 5)));
    lab.wait_for("api=10.0.0.2 web=10.0.0.3 x=10.0.0.4 y=10.0.0.5");
    lab.write("c.yml", &service("y", 5));
    lab.wait_for("api=10.0.0.2 web=10.0.0.3 y=10.0.0.5");
    fs::remove_file(lab.path("b.json")).unwrap();
    lab.wait_for("web=10.0.0.3 y=10.0.0.5");
    fs::rename(lab.path("c.yml"), lab.path("not-a-manifest")).unwrap();
    lab.wait_for("web=10.0.0.3");
    fs::hard_link(lab.path("not-a-manifest"), lab.path("d.yaml")).unwrap();
    lab.wait_for("web=10.0.0.3 y=10.0.0.5");
    assert_eq!(lab.reports, []);
    assert_eq!(lab.known.listed, 1);
}

#[test]
fn a_change_is_told_soon() {
    let mut lab = Lab::new(&[("a.yaml", &service("web", 1))]);
    let started = Instant::now();
    for address in 2..12 {
        lab.write("a.yaml", &service("web", address));
        lab.wait_for(&format!("web=10.0.0.{address}"));
    }
    // Five times what is promised for ten changes, as the machine may be busy.
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[test]
fn a_file_is_read_once_it_is_closed() {
    use std::io::Write;
    let mut lab = Lab::new(&[("a.yaml", &service("web", 1))]);
    lab.wait_for("web=10.0.0.1");
    let mut file = File::create(lab.path("a.yaml")).unwrap();
    let text = service("web", 2);
    let (first, second) = text.split_at(70);
    file.write_all(first.as_bytes()).unwrap();
    lab.is_quiet();
    file.write_all(second.as_bytes()).unwrap();
    lab.is_quiet();
    drop(file);
    lab.wait_for("web=10.0.0.2");
    assert_eq!(lab.reports, []);
}

#[test]
fn a_file_that_an_editor_replaces_is_never_missing() {
    let mut lab = Lab::new(&[("a.yaml", &service("web", 1))]);
    for (address, old, new) in [(2, ".a.swp", "a.yaml"), (3, "a.yaml~", "a.yaml")] {
        // One writes aside and renames over; the other moves the old one away and writes anew.
        if old.ends_with('~') {
            fs::rename(lab.path(new), lab.path(old)).unwrap();
            lab.write(new, &service("web", address));
        } else {
            lab.write(old, &service("web", address));
            fs::rename(lab.path(old), lab.path(new)).unwrap();
        }
        let batch = lab.batches.recv_timeout(Duration::from_secs(10)).unwrap();
        assert!(matches!(&batch.events[..], [Event::Service(_, Some(_))]), "{batch:?}");
        lab.known.take(batch);
        assert_eq!(lab.known.services(), format!("web=10.0.0.{address}"));
    }
    lab.write(".hidden.yaml", &service("hidden", 9));
    lab.write("4913", "");
    lab.is_quiet();
}

#[test]
fn a_file_that_does_not_parse_keeps_what_it_gave() {
    let mut lab = Lab::new(&[("a.yaml", &(service("web", 1) + &service("api", 2)))]);
    lab.write("a.yaml", "apiVersion: v1\nkind: [Service\n");
    lab.wait_for_report("/manifests/a.yaml:2:7: does not parse: unclosed bracket '['");
    lab.write("b.json", "{");
    lab.wait_for_report("/manifests/b.json:1:1: does not parse: EOF while parsing an object");
    fs::write(lab.path("c.yaml"), b"a: 1\nb: \xff\n").unwrap();
    lab.wait_for_report("/manifests/c.yaml:2: is not UTF-8");
    assert_eq!(lab.known.services(), "api=10.0.0.2 web=10.0.0.1");
    // The same complaint again is not told again.
    lab.write("a.yaml", "apiVersion: v1\nkind: [Service\n");
    lab.is_quiet();
    lab.write("a.yaml", &service("web", 3));
    lab.wait_for("web=10.0.0.3");
}

#[test]
fn documents_that_move_within_a_file_stay_what_they_are() {
    let mut lab = Lab::new(&[("a.yaml", &(service("web", 1) + &service("api", 2) + &service("x", 3)))]);
    lab.write(
        "a.yaml",
        &("# moved\n".to_owned() + &service("x", 3) + &service("api", 4) + &service("web", 1)),
    );
    let batch = lab.batches.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!((batch.events.len(), batch.reports.len()), (1, 0), "{batch:?}");
    lab.known.take(batch);
    assert_eq!(lab.known.services(), "api=10.0.0.4 web=10.0.0.1 x=10.0.0.3");
    // Written twice, and then once again.
    lab.write("a.yaml", &(service("x", 3) + &service("x", 3)));
    lab.wait_for("x=10.0.0.3");
    lab.wait_for_report(
        "/a.yaml:7: Service default/x: is ignored here, for it is defined earlier in this file",
    );
    lab.write("a.yaml", &(service("x", 3) + &service("x", 5)));
    lab.is_quiet();
    lab.write("a.yaml", &service("x", 5));
    lab.wait_for("x=10.0.0.5");
}

#[test]
fn a_bad_field_keeps_the_object_and_names_file_object_and_field() {
    let mut lab = Lab::new(&[("a.yaml", &service("web", 1))]);
    let bad = service("web", 9).replace("port: 80", "port: 70000, protocol: XTP");
    lab.write("a.yaml", &(service("api", 2) + &bad));
    lab.wait_for("api=10.0.0.2 web=10.0.0.1");
    lab.wait_for_report(
        "/a.yaml:7: Service default/web: spec.ports[0].port: 70000 is not a port (1 to 65535)",
    );
    lab.wait_for_report(
        "/a.yaml:7: Service default/web: spec.ports[0].protocol: \"XTP\" is not known; it can be TCP, UDP or SCTP",
    );
    assert_eq!(lab.reports.len(), 2);
}

#[test]
fn of_two_files_that_define_one_object_the_second_waits() {
    let mut lab = Lab::new(&[("a.yaml", &service("web", 1)), ("sub/b.yaml", &service("web", 2))]);
    lab.wait_for_report(&format!(
        "/sub/b.yaml: Service default/web: is ignored here, for {} defines it",
        lab.path("a.yaml").display()
    ));
    assert_eq!(lab.known.services(), "web=10.0.0.1");
    fs::remove_file(lab.path("a.yaml")).unwrap();
    lab.wait_for("web=10.0.0.2");
    assert_eq!(lab.reports.len(), 1);
}

#[test]
fn new_directories_are_watched_and_old_ones_forgotten() {
    let mut lab = Lab::new(&[]);
    lab.write("one/two/a.yaml", &service("web", 1));
    lab.wait_for("web=10.0.0.1");
    lab.write("one/two/a.yaml", &service("web", 2));
    lab.wait_for("web=10.0.0.2");
    fs::rename(lab.path("one"), lab.path("other")).unwrap();
    lab.write("other/two/b.yaml", &service("api", 3));
    lab.wait_for("api=10.0.0.3 web=10.0.0.2");
    lab.write("other/two/b.yaml", &service("api", 4));
    lab.wait_for("api=10.0.0.4 web=10.0.0.2");
    fs::rename(lab.path("other"), lab.root.path().join("elsewhere")).unwrap();
    lab.wait_for("");
    write(&lab.root.path().join("elsewhere/two/c.yaml"), &service("x", 5));
    lab.is_quiet();
}

#[test]
fn a_mounted_config_map_changes_as_a_whole() {
    let mut lab = Lab::new(&[]);
    for address in 1..4 {
        let version = format!("..version-{address}");
        lab.write(&format!("{version}/web.yaml"), &service("web", address));
        lab.write(&format!("{version}/sub/api.yaml"), &service("api", address));
        symlink(&version, lab.path("..data_tmp")).unwrap();
        fs::rename(lab.path("..data_tmp"), lab.path("..data")).unwrap();
        if address == 1 {
            symlink("..data/web.yaml", lab.path("web.yaml")).unwrap();
            symlink("..data/sub", lab.path("sub")).unwrap();
        } else {
            fs::remove_dir_all(lab.path(&format!("..version-{}", address - 1))).unwrap();
        }
        lab.wait_for(&format!("api=10.0.0.{address} web=10.0.0.{address}"));
    }
    fs::remove_file(lab.path("web.yaml")).unwrap();
    lab.wait_for("api=10.0.0.3");
    fs::remove_file(lab.path("sub")).unwrap();
    lab.wait_for("");
    assert_eq!(lab.reports, []);
}

#[test]
fn a_linked_file_is_followed_where_it_lies() {
    let mut lab = Lab::new(&[]);
    let target = lab.root.path().join("elsewhere.yaml");
    write(&target, &service("web", 1));
    symlink(&target, lab.path("web.yaml")).unwrap();
    lab.wait_for("web=10.0.0.1");
    write(&target, &service("web", 2));
    lab.wait_for("web=10.0.0.2");
    let aside = lab.root.path().join("aside");
    write(&aside, &service("web", 3));
    fs::rename(&aside, &target).unwrap();
    lab.wait_for("web=10.0.0.3");
    write(&target, &service("web", 4));
    lab.wait_for("web=10.0.0.4");
}

#[test]
fn a_directory_that_goes_away_keeps_what_it_gave_and_is_picked_up_again() {
    let mut lab = Lab::new(&[("a.yaml", &service("web", 1))]);
    let aside = lab.root.path().join("aside");
    fs::rename(lab.path(""), &aside).unwrap();
    let report =
        "/manifests: cannot be read, and what it gave is kept: No such file or directory (os error 2)";
    lab.wait_for_report(report);
    assert_eq!(lab.known.services(), "web=10.0.0.1");
    write(&aside.join("b.yaml"), &service("api", 2));
    fs::rename(&aside, lab.path("")).unwrap();
    lab.wait_for("api=10.0.0.2 web=10.0.0.1");
    lab.write("b.yaml", &service("api", 3));
    lab.wait_for("api=10.0.0.3 web=10.0.0.1");

    // Removed whole, file by file, and made anew.
    fs::remove_dir_all(lab.path("")).unwrap();
    lab.wait("the second report", |lab| lab.reports.len() == 2);
    lab.write("c.yaml", &service("x", 4));
    lab.wait("the new files", |lab| lab.known.services().contains("x=10.0.0.4"));
    lab.wait_for("x=10.0.0.4");
    lab.write("c.yaml", &service("x", 5));
    lab.wait_for("x=10.0.0.5");
}

#[test]
fn what_may_not_be_read_is_reported_and_read_when_it_may_be() {
    let mut lab = Lab::new(&[("a.yaml", &service("web", 1)), ("sub/b.yaml", &service("api", 2))]);
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(&lab.path("sub"), 0o000);
    if fs::read_dir(lab.path("sub")).is_ok() {
        eprintln!(
            "skipped what_may_not_be_read_is_reported_and_read_when_it_may_be: this user may read anything"
        );
        return;
    }
    lab.wait_for_report("/sub: cannot be read, and what it gave is kept: Permission denied (os error 13)");
    mode(&lab.path("sub"), 0o755);
    lab.write("sub/b.yaml", &service("api", 4));
    lab.wait_for("api=10.0.0.4 web=10.0.0.1");
    let secret = lab.path("secret");
    write(&secret, &service("web", 5));
    mode(&secret, 0o000);
    fs::rename(&secret, lab.path("a.yaml")).unwrap();
    lab.wait_for_report("/a.yaml: cannot be read, and what it gave is kept: Permission denied (os error 13)");
    mode(&lab.path("a.yaml"), 0o644);
    lab.wait_for("api=10.0.0.4 web=10.0.0.5");
}

#[test]
fn what_cannot_be_read_keeps_what_it_gave() {
    let mut lab = Lab::new(&[("a.yaml", &service("web", 1)), ("b.yaml", &service("api", 2))]);
    for (name, target) in [("a.yaml", "/proc/self/mem"), ("b.yaml", "b.yaml")] {
        symlink(target, lab.path("aside")).unwrap();
        fs::rename(lab.path("aside"), lab.path(name)).unwrap();
    }
    lab.wait_for_report("/a.yaml: cannot be read, and what it gave is kept: Input/output error (os error 5)");
    lab.wait_for_report(
        "/b.yaml: cannot be read, and what it gave is kept: \
         Too many levels of symbolic links (os error 40)",
    );
    assert_eq!(lab.known.services(), "api=10.0.0.2 web=10.0.0.1");
    for (name, text) in [("a.yaml", service("web", 3)), ("b.yaml", service("api", 4))] {
        lab.write("aside", &text);
        fs::rename(lab.path("aside"), lab.path(name)).unwrap();
    }
    lab.wait_for("api=10.0.0.4 web=10.0.0.3");
}

#[test]
fn a_file_beyond_all_size_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a.yaml");
    File::create(&path).unwrap().set_len(LARGEST_FILE + 1).unwrap();
    let batch = Manifests::open(root.path(), "node-1").unwrap().read();
    let message = "cannot be read, and what it gave is kept: it is larger than 64 MiB".to_owned();
    assert_eq!(batch.reports, [Report { place: path.display().to_string(), message }]);
}

#[test]
fn pipes_are_passed_over() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a.yaml");
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let batch = Manifests::open(root.path(), "node-1").unwrap().read();
    assert_eq!(batch, Batch { events: vec![Event::Listed], ..Batch::default() });
}

#[test]
fn watching_ends_when_it_is_dropped() {
    let lab = Lab::new(&[]);
    drop(lab.watching);
    assert!(lab.batches.recv().is_err());
}

/// A change of a directory.
#[derive(Clone, Debug)]
enum Step {
    Write(&'static str, String),
    Remove(&'static str),
    Rename(&'static str, &'static str),
}

fn any_step() -> impl Strategy<Value = Step> {
    let name = || {
        prop::sample::select(vec!["a.yaml", "b.yml", "c.json", "sub/a.yaml", "sub-b.yaml", "x", ".h.yaml"])
    };
    let content = prop::collection::vec((prop::sample::select(vec!["web", "api", "x"]), 1..4_u8), 0..3);
    let content = content.prop_map(|services| {
        services.into_iter().map(|(name, address)| service(name, address)).collect::<String>()
    });
    prop_oneof![
        4 => (name(), content, any::<u8>()).prop_map(|(name, content, address)| {
            let text = if name.ends_with("json") { json_service("web", address) } else { content };
            Step::Write(name, text)
        }),
        1 => name().prop_map(Step::Remove),
        1 => (name(), name()).prop_map(|(from, to)| Step::Rename(from, to)),
    ]
}

/// Takes a step; one that is impossible is none.
fn take(step: &Step, directory: &Path) {
    match step {
        Step::Write(name, text) => write(&directory.join(name), text),
        Step::Remove(name) => drop(fs::remove_file(directory.join(name))),
        // What is renamed to .json would not parse, and keep what was there before: a matter of history.
        Step::Rename(from, to) if to.ends_with("json") || from.ends_with("json") => {}
        Step::Rename(from, to) => drop(fs::rename(directory.join(from), directory.join(to))),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_changes_end_where_a_fresh_read_does(steps in prop::collection::vec(any_step(), 0..12)) {
        let root = tempfile::tempdir().unwrap();
        let mut manifests = Manifests::open(root.path(), "node-1").unwrap();
        let mut known = Known::default();
        known.take(manifests.read());
        for step in steps {
            take(&step, root.path());
            known.take(manifests.read());
            prop_assert_eq!(&known, &fresh(root.path()));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn any_watched_changes_end_where_a_fresh_read_does(steps in prop::collection::vec(any_step(), 0..12)) {
        let mut lab = Lab::new(&[]);
        for step in steps {
            take(&step, &lab.path(""));
        }
        let fresh = fresh(&lab.path(""));
        lab.wait("the state of a fresh read", |lab| lab.known == fresh);
    }
}
