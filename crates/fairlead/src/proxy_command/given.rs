//! kube-proxy's flags as clap takes them: their rows become arguments, and their values a draft.

use std::collections::{BTreeMap, BTreeSet};

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};
use proxy::KubeProxyConfiguration;

use super::flags::{BesideConfig, Draft, FLAGS, Flag, Kind, NOTHING};

/// The values of kube-proxy's flags.
#[derive(Clone, Debug, Default)]
pub(crate) struct KubeProxyFlags {
    /// What they write together.
    pub(super) draft: Draft,
    /// Each value, be it given or by default.
    pub(super) values: BTreeMap<&'static str, Vec<String>>,
    /// The flags that were given.
    given: BTreeSet<&'static str>,
}

impl KubeProxyFlags {
    /// A configuration file, with what the flags say that count beside it.
    pub(super) fn beside(&self, file: KubeProxyConfiguration) -> KubeProxyConfiguration {
        let mut draft = Draft { configuration: file, ..self.draft.clone() };
        for flag in self.given_flags().filter(|flag| flag.beside_config == BesideConfig::Counts) {
            for value in self.values.get(flag.name).into_iter().flatten() {
                (flag.set)(&mut draft, value).expect("it was judged when it was read");
            }
        }
        draft.configuration
    }

    /// Every flag and its value, by name, as /flagz shows them.
    pub(super) fn shown(&self) -> Vec<(String, String)> {
        let value = |flag: &Flag| {
            let values = self.values.get(flag.name).map(|values| values.join(",")).unwrap_or_default();
            match flag.kind {
                Kind::Values(_) => format!("[{values}]"),
                Kind::Value(_) | Kind::Switch => values,
            }
        };
        let mut shown: Vec<_> = FLAGS.iter().map(|flag| (flag.name.to_owned(), value(flag))).collect();
        shown.sort();
        shown
    }

    /// Those that were given and do not count beside a configuration file.
    pub(super) fn ignored_beside_config(&self) -> Vec<&'static str> {
        let ignored = self.given_flags().filter(|flag| flag.beside_config == BesideConfig::Ignored);
        ignored.map(|flag| flag.name).collect()
    }

    /// Those that were given and do nothing, with the reason.
    pub(super) fn without_meaning(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.given_flags().filter_map(|flag| Some((flag.name, flag.help.strip_prefix(NOTHING)?)))
    }

    fn given_flags(&self) -> impl Iterator<Item = &'static Flag> {
        FLAGS.iter().filter(|flag| self.given.contains(flag.name))
    }
}

impl Args for KubeProxyFlags {
    fn augment_args(command: Command) -> Command {
        command.args(FLAGS.iter().map(argument))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for KubeProxyFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        let mut draft = Draft::default();
        for flag in FLAGS {
            let values: Vec<String> = matches.get_many(flag.name).into_iter().flatten().cloned().collect();
            for value in &values {
                (flag.set)(&mut draft, value)
                    .map_err(|problem| Error::raw(ErrorKind::ValueValidation, problem))?;
            }
            if matches.value_source(flag.name) == Some(ValueSource::CommandLine) {
                self.given.insert(flag.name);
            }
            self.values.insert(flag.name, values);
        }
        let (healthz, metrics) = (draft.healthz_port, draft.metrics_port);
        draft.configuration.set_ports(healthz, metrics);
        self.draft = draft;
        Ok(())
    }
}

fn argument(flag: &'static Flag) -> Arg {
    // It is judged where it is read, so that what is wrong is told with the flag's name.
    let judge = move |text: &str| (flag.set)(&mut Draft::default(), text).map(|()| text.to_owned());
    let argument = Arg::new(flag.name).long(flag.name).help(flag.help).value_parser(judge);
    let argument = match flag.name {
        "v" => argument.short('v'),
        _ => argument,
    };
    let argument = match flag.default {
        "" => argument.default_value("").hide_default_value(true),
        default => argument.default_value(default),
    };
    match flag.kind {
        Kind::Value(name) => argument.value_name(name).allow_hyphen_values(true),
        Kind::Values(name) => argument.value_name(name).action(ArgAction::Append),
        Kind::Switch => {
            argument.value_name("BOOL").num_args(0..=1).require_equals(true).default_missing_value("true")
        }
    }
}
