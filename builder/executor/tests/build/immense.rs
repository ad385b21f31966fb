//! What is broken or out of all measure is an error that says so.

use std::fmt::Write;
use std::fs;

use super::flags::hub::Hub;

/// `s0` to `s<last>`, each of which needs the one before it.
fn chain(last: usize, stage: fn(usize) -> String) -> String {
    let mut text = "FROM scratch AS s0\nCOPY Dockerfile /f\n".to_owned();
    for index in 1..=last {
        text += &stage(index);
    }
    text
}

#[test]
fn a_thousand_stages_in_a_row_are_built_and_more_are_refused() {
    let hub = Hub::start();
    let on_another = |index: usize| format!("FROM s{} AS s{index}\n", index - 1);
    let from_another = |index: usize| {
        let before = index - 1;
        format!("FROM scratch AS s{index}\nCOPY --from=s{before} /f /f\n")
    };
    for (stage, lines) in [(on_another as fn(usize) -> String, 1), (from_another, 2)] {
        let context = hub.context("many", &[("Dockerfile", &chain(999, stage))]);
        hub.build(&context, "many:1", &[]).good();
        assert_eq!(hub.files("many:1").len(), 1);
        let context = hub.context("many", &[("Dockerfile", &chain(3000, stage))]);
        // From the last one downwards it is s2000, whose FROM comes after s0 with its two lines.
        let line = 3 + 1999 * lines;
        let expected = format!("Dockerfile:{line}: more than 1000 stages need one another");
        hub.build(&context, "many:2", &[]).fails(&expected);
    }
}

#[test]
fn a_value_that_doubles_with_every_line_is_refused_with_the_line() {
    let hub = Hub::start();
    for (keyword, error) in [("ENV", "Dockerfile:22: ENV"), ("ARG", "Dockerfile:22: ARG")] {
        let mut text = "FROM scratch\n".to_owned();
        writeln!(text, "{keyword} A=ab").unwrap();
        for _ in 0..40 {
            writeln!(text, "{keyword} A=$A$A").unwrap();
        }
        let context = hub.context("doubling", &[("Dockerfile", &text)]);
        let log = hub.build(&context, "doubling:1", &[]).fails(error).log;
        assert!(log.contains("add more than 1048576 bytes"), "{log}");
    }
}

/// Changed bytes are hardly ever gzip or a tar, and that is not what is wrong with them.
#[test]
fn a_layer_that_was_changed_is_named_by_its_digest() {
    let hub = Hub::start();
    let context = hub.simple();
    fs::write(context.join("file"), "a line\n".repeat(100_000)).unwrap();
    hub.build(&context, "base:1", &[]).good();
    let image = hub.image("base:1");
    let (trust, dir) = (hub.trust(), hub.text("cache"));
    let args = [trust.as_str(), "--cache-dir", &dir, "-i", &image];
    hub.program(env!("CARGO_BIN_EXE_warmer"), &args, &[], b"")
        .good();
    let layer = hub.manifest("base:1")["layers"][0]["digest"].clone();
    let hex = layer.as_str().unwrap().trim_start_matches("sha256:");
    let on_the_volume = hub.path("cache").join(hub.digest("base:1"));
    let on_the_volume = on_the_volume.join("blobs/sha256").join(hex);
    let good = fs::read(&on_the_volume).unwrap();
    let dockerfile = format!("FROM {image}\nCOPY --from={image} /file /copy\n");
    let above = hub.context("above", &[("Dockerfile", &dockerfile)]);
    for at in [0, 40, good.len() / 2] {
        let mut changed = good.clone();
        changed[at] ^= 0x55;
        for (file, flags) in [
            (&hub.path("registry/store/blobs/sha256").join(hex), &[][..]),
            (&on_the_volume, &["--cache-dir", &dir]),
        ] {
            let _ = fs::remove_dir_all(hub.path("kaniko"));
            fs::remove_file(file).unwrap();
            fs::write(file, &changed).unwrap();
            let log = hub
                .build(&above, "above:1", flags)
                .fails("cannot read layer")
                .log;
            let expected = format!("content of sha256:{hex} has the digest sha256:");
            assert!(log.contains(&expected), "{at}: {log}");
            fs::write(file, &good).unwrap();
        }
    }
}
