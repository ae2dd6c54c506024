//! The maker of a sandbox is killed at every step, and the next start removes what it left.
//!
//! This program runs itself as the maker that dies.

#[path = "sandbox/world.rs"]
#[expect(dead_code, reason = "the other tests need more of it")]
mod world;

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use kernel_io::namespaces::Namespaces;
use kernel_io::process::{Launch, Process, Signal};
use libtest_mimic::{Arguments, Failed, Trial};
use pod_sandbox::{
    Adopted, Broken, Kernel, Linux, Node, Record, Sandbox, SandboxSpec, Step, StepError, Trace, Whose,
    Wiring, make, unmake,
};

use world::{World, settings, spec};

/// How the argument begins that makes this program the maker.
const MAKER: &str = "--maker";

/// What the maker is killed in.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Moment {
    /// When a thing is noted, before the step is begun.
    BeforeStep,
    /// When the step is done, and nobody knows it.
    AfterStep,
    /// When something is about to be undone.
    BeforeUndo,
    /// When it is undone.
    AfterUndo,
    /// Whenever it happens to be, by another.
    AnyTime,
}

const MOMENTS: [Moment; 5] =
    [Moment::BeforeStep, Moment::AfterStep, Moment::BeforeUndo, Moment::AfterUndo, Moment::AnyTime];

/// How the maker ended.
#[derive(Debug, PartialEq)]
enum Ended {
    Killed,
    Done,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    if let [_, mark, root, cgroup, users, moment, place] = words.as_slice()
        && mark == MAKER
    {
        maker(Path::new(root), cgroup, users, moment, place.parse().expect("we wrote it"));
        return ExitCode::SUCCESS;
    }
    let trial = |users: Whose, moment: Moment| {
        let name = format!("killed::{moment:?}, {users:?}'s users");
        Trial::test(name, move || killed_everywhere(users, moment))
    };
    let trials = [Whose::Node, Whose::Pod]
        .into_iter()
        .flat_map(|users| MOMENTS.map(|moment| trial(users, moment)))
        .chain([Trial::test("killed::a sandbox that stands is taken over", taken_over)]);
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

/// Makes a sandbox and removes it, and kills itself on the way.
fn maker(root: &Path, cgroup: &str, users: &str, moment: &str, place: usize) {
    let settings = settings(root, |settings| cgroup.clone_into(&mut settings.cgroup));
    let node = Node::open(settings).expect("a node");
    let moment = MOMENTS.into_iter().find(|known| format!("{known:?}") == moment);
    let spec = wanted(if users == "Pod" { Whose::Pod } else { Whose::Node });
    let inner = Linux::begin(&spec, &node).expect("begun");
    let mut deadly = Deadly { inner, moment, left: place };
    make(&mut deadly).expect("made");
    if moment.is_some() {
        unmake(&mut deadly).expect("removed");
    }
}

fn wanted(users: Whose) -> SandboxSpec {
    SandboxSpec { users, ..spec(2) }
}

/// The real kernel, in which this process dies.
struct Deadly {
    inner: Linux,
    moment: Option<Moment>,
    left: usize,
}

impl Deadly {
    fn pass(&mut self, moment: Moment) {
        if self.moment != Some(moment) {
            return;
        }
        if self.left == 0 {
            let own = rustix::process::getpid();
            rustix::process::kill_process(own, Signal::KILL).expect("killed");
            thread::sleep(Duration::from_mins(1)); // it may take a moment
        }
        self.left -= 1;
    }
}

impl Kernel for Deadly {
    fn record(&self) -> &Record {
        self.inner.record()
    }

    fn wiring(&self) -> Wiring {
        self.inner.wiring()
    }

    fn begin(&mut self, trace: Trace) -> Result<(), StepError> {
        self.inner.begin(trace)
    }

    fn apply(&mut self, step: &Step) -> Result<(), StepError> {
        self.pass(Moment::BeforeStep);
        self.inner.apply(step)?;
        self.pass(Moment::AfterStep);
        Ok(())
    }

    fn undo(&mut self, trace: &Trace) -> Result<(), StepError> {
        self.pass(Moment::BeforeUndo);
        self.inner.undo(trace)?;
        self.pass(Moment::AfterUndo);
        Ok(())
    }

    fn finish(&mut self) -> Result<(), StepError> {
        self.inner.finish()
    }

    fn leave(&mut self) -> Result<(), StepError> {
        self.inner.leave()
    }

    fn forget(&mut self) -> Result<(), StepError> {
        self.inner.forget()
    }
}

/// Starts the maker in the node's network namespace.
fn started(world: &World, users: Whose, moment: &str, place: usize) -> Process {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command.arg(MAKER).arg(world.root()).arg(&world.node.settings().cgroup);
    command.args([format!("{users:?}"), moment.to_owned(), place.to_string()]);
    command.stdin(Stdio::null());
    let launch = Launch::new(command).joining(Namespaces::network(&world.netns).expect("held"));
    launch.dying_with_us().start().expect("started").process
}

fn ended(maker: &Process) -> Ended {
    let status = maker.wait_for(Duration::from_secs(30)).expect("it ends");
    match status.code() {
        Some(0) => Ended::Done,
        None => Ended::Killed,
        Some(code) => panic!("the maker failed with {code}"),
    }
}

fn killed_everywhere(users: Whose, moment: Moment) -> Result<(), Failed> {
    let world = World::new();
    let mut kills = 0;
    for place in 0.. {
        let maker = started(&world, users, &format!("{moment:?}"), place);
        if moment == Moment::AnyTime && place < 25 {
            thread::sleep(Duration::from_micros(700) * u32::try_from(place).unwrap_or(0));
            maker.signal(Signal::KILL)?;
        }
        let ended = ended(&maker);
        kills += usize::from(ended == Ended::Killed);
        removed(&world, moment)?;
        if ended == Ended::Done && (moment != Moment::AnyTime || place >= 25) {
            break;
        }
    }
    // Else it was not killed where it should have been.
    let expected = match moment {
        Moment::BeforeStep | Moment::AfterStep => 25,
        Moment::BeforeUndo | Moment::AfterUndo => 7,
        Moment::AnyTime => 1,
    };
    if kills < expected { Err(format!("it was killed only {kills} times").into()) } else { Ok(()) }
}

/// The next start, and what is there after it.
fn removed(world: &World, moment: Moment) -> Result<(), Failed> {
    for (name, adopted) in Sandbox::adopt_all(&world.node)? {
        match (adopted?, moment) {
            (Adopted::Standing(mut sandbox), Moment::AnyTime) => sandbox.remove()?,
            (Adopted::Removed(_), Moment::AnyTime)
            | (Adopted::Removed(Broken::Unfinished), Moment::BeforeStep | Moment::AfterStep)
            | (Adopted::Removed(Broken::HalfRemoved), Moment::BeforeUndo | Moment::AfterUndo) => {}
            (adopted, _) => return Err(format!("{name} is {adopted:?}").into()),
        }
    }
    world.assert_empty();
    Ok(())
}

fn taken_over() -> Result<(), Failed> {
    let world = World::new();
    assert_eq!(ended(&started(&world, Whose::Node, "Never", 0)), Ended::Done);
    let Adopted::Standing(mut sandbox) = Sandbox::adopt("pod-2", &world.node)? else {
        return Err("it stands".into());
    };
    assert_eq!(sandbox.addresses().len(), 2);
    assert_eq!(sandbox.spec(), &spec(2));
    world::connects(&world.netns, &sandbox.netns()?, "10.1.0.2:80");
    assert_eq!(world::said(&sandbox, "hostname"), "pod-2\n");
    sandbox.remove()?;
    world.assert_empty();
    Ok(())
}
