//! `cargo +nightly fuzz run build` in the folder of the crate.

#![no_main]

mod input;

libfuzzer_sys::fuzz_target!(|data: &[u8]| input::render(data));
