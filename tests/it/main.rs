//! Drives the real `kiln` from outside: its commands, its words, and, on a
//! real Kubernetes, the whole loop.

mod docs;
mod structure;
