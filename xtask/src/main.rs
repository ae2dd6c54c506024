//! `cargo xtask …`: what a developer of Fairlead runs. The README's commands are these, and nothing else.

mod apart;
mod bench;
mod build;
mod debian;
mod demo;
mod field;
mod fuzz;
mod image;
mod soak;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

/// Build, check and pack Fairlead
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Put what a user installs into target/dist: pause, init and fairlead
    Build {
        /// Only this program
        only: Option<Program>,
    },
    /// Show the main job in namespaces of its own: two Services, eight pods, pause, real packets
    Demo {
        /// How to print what is shown
        #[arg(short, long, value_enum, default_value_t = demo::Format::Text)]
        output: demo::Format,
        /// The proxy's mode
        #[arg(long, value_enum, default_value_t = demo::Mode::Iptables)]
        mode: demo::Mode,
    },
    /// The demo itself, once it is in its namespaces
    #[command(hide = true)]
    DemoInside(demo::Inside),
    /// A container of the demo
    #[command(hide = true)]
    DemoContainer(demo::Container),
    /// Measure a claim of speed against its peer in one run: a JSON object a line and figure, then a table
    Bench {
        /// What is measured
        bench: bench::Bench,
        /// More of it, where that takes long: peers at larger sizes
        #[arg(long)]
        long: bool,
    },
    /// The bench itself, once it is in its namespaces
    #[command(hide = true)]
    BenchInside(bench::Inside),
    /// Change Services at random for long while clients use them, and see that none is harmed
    Soak(soak::Soak),
    /// The soak itself, once it is in its namespaces
    #[command(hide = true)]
    SoakInside(soak::Inside),
    /// Damage what the kernel says at random for long, and see that no reader panics
    Fuzz(fuzz::Fuzz),
    /// Every check and every test, the cheap ones first
    Test,
    /// The rules of the house that no compiler knows, one line a finding
    Tidy,
    /// Rewrite the goldens of the scenarios; read the diff like code
    Bless,
    /// Pack an OCI archive into target/dist, the same bytes for the same inputs
    Image {
        /// What the image holds
        program: Packed,
        /// Take the newest Debian packages for it, and write them into its lock file
        #[arg(long)]
        relock: bool,
    },
}

/// A program that we ship.
#[derive(Clone, Copy, ValueEnum)]
enum Program {
    Pause,
    Init,
    Fairlead,
}

/// A program that has an image.
#[derive(Clone, Copy, ValueEnum)]
enum Packed {
    Pause,
    Fairlead,
}

fn main() -> ExitCode {
    match run(&CommandLine::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Build { only: None } => build::all(),
        Command::Build { only: Some(Program::Pause) } => build::pause().map(drop),
        Command::Build { only: Some(Program::Init) } => build::init().map(drop),
        Command::Build { only: Some(Program::Fairlead) } => build::fairlead().map(drop),
        Command::Demo { output, mode } => demo::show(*output, *mode),
        Command::DemoInside(inside) => demo::inside(inside),
        Command::DemoContainer(container) => demo::container(*container),
        Command::Bench { bench, long: false } => bench::run(*bench, bench::Extent::Usual),
        Command::Bench { bench, long: true } => bench::run(*bench, bench::Extent::Long),
        Command::BenchInside(inside) => bench::inside(inside),
        Command::Soak(soak) => soak::run(soak),
        Command::SoakInside(inside) => soak::inside(inside),
        Command::Fuzz(fuzz) => fuzz.run(),
        Command::Test => test::all(),
        Command::Tidy => tidy::check(),
        Command::Bless => test::bless(),
        Command::Image { program: Packed::Pause, relock: _ } => image::pause().map(drop),
        Command::Image { program: Packed::Fairlead, relock: true } => {
            image::relock().and_then(|()| image::fairlead().map(drop))
        }
        Command::Image { program: Packed::Fairlead, relock: false } => image::fairlead().map(drop),
    }
}
