//! What the next start finds: sandboxes that stand, and ones that do not.

use std::fs;
use std::time::Duration;

use kernel_io::link::Links;
use kernel_io::mounts;
use kernel_io::namespaces::{Namespace, NamespaceFiles};
use kernel_io::process::Signal;
use pod_sandbox::{Adopted, Broken, Network, PodNetwork, Sandbox, SandboxSpec, Whose};

use crate::world::{World, spec};

fn broken(world: &World) -> Broken {
    match Sandbox::adopt("pod-2", &world.node).expect("looked at") {
        Adopted::Removed(broken) => broken,
        Adopted::Standing(_) => panic!("it should not stand"),
    }
}

fn left(world: &World) -> Sandbox {
    Sandbox::create(&spec(2), &world.node).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_sandbox_of_which_something_is_gone_is_removed() {
    let world = World::new();
    let pause = left(&world).pause().expect("it runs");
    pause.signal(Signal::KILL).expect("killed");
    assert!(pause.ends_within(Duration::from_secs(10)));
    assert_eq!(broken(&world), Broken::Pause);
    world.assert_empty();

    let sandbox = left(&world);
    let files =
        NamespaceFiles::at(sandbox.namespace(Namespace::Ipc).expect("its own").parent().expect("a folder"));
    files.release(Namespace::Ipc).expect("released");
    assert_eq!(broken(&world), Broken::Namespace(Namespace::Ipc));
    world.assert_empty();

    left(&world);
    let links = Links::of(&world.netns).and_then(|mut links| {
        let name = links.list()?.into_iter().find(|link| link.name != "lo").expect("its link").name;
        links.delete(&name).map(|()| name)
    });
    assert_eq!(broken(&world), Broken::Link(links.expect("deleted")));
    world.assert_empty();

    mounts::unmount_all(&left(&world).shm()).expect("unmounted");
    assert_eq!(broken(&world), Broken::Memory);
    world.assert_empty();
}

#[test]
fn nothing_of_another_life_of_the_machine_is_believed() {
    let world = World::new();
    left(&world);
    let journal = world.root().join("sandboxes/pod-2/journal");
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("read");
    let text = fs::read_to_string(&journal).expect("read").replace(boot.trim(), "another");
    // What ran under these numbers then is not what runs under them now.
    fs::write(&journal, text).expect("written");
    assert_eq!(broken(&world), Broken::Rebooted);
    world.assert_empty();
}

#[test]
fn a_directory_without_a_journal_is_removed() {
    let world = World::new();
    fs::create_dir(world.root().join("sandboxes/pod-2")).expect("made");
    assert_eq!(broken(&world), Broken::Unfinished);
    let mut torn = world.made(&spec(3));
    let journal = world.root().join("sandboxes/pod-3/journal");
    let text = fs::read_to_string(&journal).expect("read");
    fs::write(&journal, &text[..text.len() - 4]).expect("cut off in its last line");
    torn.remove().expect("removed");
    world.assert_empty();
}

#[test]
fn a_full_pool_is_told_and_what_nobody_owns_is_taken_from_it() {
    let world = World::with(|settings| settings.ranges = vec!["10.1.0.0/30".parse().expect("a range")]);
    let any = |number| SandboxSpec { network: Network::Pod(PodNetwork::default()), ..spec(number) };
    let mut first = world.made(&any(2));
    assert_eq!(first.addresses(), ["10.1.0.2".parse::<std::net::IpAddr>().expect("an address")]);
    let error = Sandbox::create(&any(3), &world.node).expect_err("it is full").to_string();
    assert_eq!(error, "sandbox pod-3: reserve addresses: every address of 10.1.0.0/30 is taken, by 1 pods");
    first.remove().expect("removed");
    std::os::unix::fs::symlink("long-gone", world.root().join("pool/10.1.0.2")).expect("made");
    world.made(&any(3));
    world.assert_empty();
}

#[test]
fn an_address_that_was_asked_for_and_is_taken_names_its_owner() {
    let world = World::new();
    let _first = world.made(&spec(2));
    let second = SandboxSpec { name: "other".to_owned(), ..spec(2) };
    let error = Sandbox::create(&second, &world.node).expect_err("taken").to_string();
    assert_eq!(error, "sandbox other: reserve addresses: address 10.1.0.2 is taken by sandbox pod-2");
}

#[test]
fn twenty_at_once_come_and_go_without_a_trace() {
    let world = World::new();
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let world = &world;
            scope.spawn(move || five_come_and_go(world, 10 + 5 * worker));
        }
    });
    world.assert_empty();
}

fn five_come_and_go(world: &World, first: u8) {
    let one = |number| {
        let users = if number == first { Whose::Pod } else { Whose::Node };
        SandboxSpec { network: Network::Pod(PodNetwork::default()), users, ..spec(number) }
    };
    let mut made: Vec<_> = (first..first + 5).map(|number| world.made(&one(number))).collect();
    for pod in &mut made {
        pod.remove().expect("removed");
    }
}
