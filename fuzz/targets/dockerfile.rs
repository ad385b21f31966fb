//! Any text is read as a Dockerfile or refused, and what is said about it lies within it.

/// Reads, lints and expands nothing else than what the text itself says.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let lines = u32::try_from(text.lines().count().max(1)).unwrap_or(u32::MAX);
    match kiln_dockerfile::parse(text) {
        Ok(dockerfile) => {
            let report = kiln_dockerfile::lint::check(&dockerfile, &|_| None);
            // A report can be shown, whatever is in it.
            let _ = format!("{report:?}");
        }
        Err(error) => {
            assert!(
                error.line() <= lines.saturating_add(1),
                "line {} of {lines}: {}",
                error.line(),
                error.message()
            );
            let _ = error.hint();
        }
    }
}
