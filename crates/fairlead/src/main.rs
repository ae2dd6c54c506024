//! The command line of Fairlead. It only says what is wanted; the other crates do it.
//!
//! Called by the name `kube-proxy` it is `fairlead proxy`.

#![expect(clippy::doc_markdown, reason = "the comments of arguments are their help texts")]

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{Command, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

mod logging;
mod pod_command;
mod proxy_command;
mod table;
mod up_command;

use pod_command::PodCommand;
use proxy_command::ProxyCommand;
use up_command::{DownCommand, UpCommand};

/// The node side of Kubernetes: a drop-in kube-proxy, and pods on one machine.
#[derive(Debug, Parser)]
#[command(name = "fairlead", version, propagate_version = true, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Makes Services work on this node, as kube-proxy does.
    Proxy(Box<ProxyCommand>),
    /// Runs pods on this machine, from plain Pod manifests.
    Pod(Box<PodCommand>),
    /// Runs a directory: its Pods and Deployments, and its Services in front of them, in step with the files.
    Up(Box<UpCommand>),
    /// Removes all that `up` made for a directory: pods, rules, everything.
    Down(DownCommand),
    /// Prints a completion script for a shell.
    ///
    /// For example: fairlead completions bash > /etc/bash_completion.d/fairlead
    Completions {
        /// The shell.
        shell: Shell,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse_from(normalized(std::env::args_os()));
    let result = match arguments.command {
        Subcommands::Proxy(command) => command.run(),
        Subcommands::Pod(command) => command.run(),
        Subcommands::Up(command) => command.run(),
        Subcommands::Down(command) => command.run(),
        Subcommands::Completions { shell } => {
            clap_complete::generate(shell, &mut command(), "fairlead", &mut std::io::stdout());
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            for line in lines(&error) {
                eprintln!("error: {line}");
            }
            ExitCode::FAILURE
        }
    }
}

/// An error as it is told: in one line, but a configuration with a line for each field that is wrong.
fn lines(error: &anyhow::Error) -> Vec<String> {
    match error.downcast_ref::<proxy::Invalid>() {
        Some(invalid) => invalid.lines().collect(),
        None => vec![told(error)],
    }
}

/// An error and its causes in one line; some errors tell their cause themselves, and some draw a picture below it.
fn told(error: &anyhow::Error) -> String {
    let add = |mut line: String, cause: String| {
        if !line.ends_with(&cause) {
            line.push_str(if line.is_empty() { "" } else { ": " });
            line.push_str(&cause);
        }
        line
    };
    let first_lines = error.chain().map(|cause| cause.to_string().lines().take(1).collect::<String>());
    first_lines.fold(String::new(), add)
}

fn command() -> Command {
    Arguments::command()
}

/// The arguments as clap wants them: `kube-proxy` becomes `fairlead proxy`, and flags may have underscores for
/// hyphens, as in kube-proxy.
fn normalized(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.map(with_hyphens).collect();
    let called_as = arguments.first().map(Path::new).and_then(Path::file_name);
    if called_as.is_some_and(|name| name == "kube-proxy") {
        arguments.insert(1, "proxy".into());
    }
    arguments
}

fn with_hyphens(argument: OsString) -> OsString {
    let Some(text) = argument.to_str().filter(|text| text.starts_with("--")) else { return argument };
    let (name, value) = text.split_at(text.find('=').unwrap_or(text.len()));
    format!("{}{value}", name.replace('_', "-")).into()
}

#[cfg(test)]
mod tests;
