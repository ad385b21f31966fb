//! What is broken or out of all measure is an error that says so.

use std::fmt::Write;

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
