//! What each flag and variable does to the image, to files, to the log or to the network. Builds run against our own
//! registry with TLS from a private authority and token login, started in process; only `commands` needs RUN.

mod azure;
mod commands;
mod contexts;
mod escapes;
pub(crate) mod hub;
mod network;
mod output;
mod subcommands;
mod values;
mod warmer;
mod web;
