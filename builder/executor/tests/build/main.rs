//! Real builds by the real binary, pushed to a real registry (distribution v3) and examined with
//! crane. What a test needs and the machine lacks is reported as skipped, with the reason; with
//! `KILN_REQUIRE_ALL=1` that is a failure.

mod cache;
mod cases;
mod chroot;
mod copy;
mod flags;
mod immense;
mod inputs;
mod jobs;
mod receive;
mod run;
mod stale;
mod world;
