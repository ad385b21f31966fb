//! Drives the real `kiln` from outside: its commands, its words, and, on a
//! real Kubernetes, the whole loop.

mod commands;
mod docs;
mod examples;
mod executor_cases;
mod executor_images;
mod kiln;
mod kustomize;
mod loops;
mod objects;
mod quickstart;
mod reach;
mod screen;
mod small;
mod spine;
mod structure;
