//! The built binary, as a user calls it. Needs root, iptables and nft: every test works in a network namespace of its
//! own that has no name, and nothing outside it is touched.

mod bad_input;
mod crash;
mod datagrams;
mod dry_run;
mod flows;
mod health;
mod idle;
mod localhost;
mod neighbour;
mod nftables;
mod privileges;
mod process;
mod reload;
mod serving;
mod shortage;
mod spread;
mod stage;
mod transparency;
mod web;
