//! The `Range` header of a blob's download (RFC 9110, section 14; one range, as registries' clients use it).

/// What part of a blob an answer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it.
    Whole,
    /// From the first to the last byte, both included.
    Some {
        /// First byte.
        first: u64,
        /// Last byte.
        last: u64,
    },
    /// The range lies outside.
    Nothing,
}

/// What `header` asks for of `size` bytes. A header that is not understood is left out of account, as the RFC has it.
pub(super) fn part(header: Option<&str>, size: u64) -> Part {
    let Some(range) = header.and_then(|header| header.strip_prefix("bytes=")) else {
        return Part::Whole;
    };
    let Some((first, last)) = range.trim().split_once('-') else {
        return Part::Whole;
    };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let (first, last) = match (first.is_empty(), last.is_empty()) {
        (true, true) => return Part::Whole,
        // The last so many bytes.
        (true, false) => match number(last) {
            Some(0) => return Part::Nothing,
            Some(count) => (size.saturating_sub(count), size.saturating_sub(1)),
            None => return Part::Whole,
        },
        (false, true) => match number(first) {
            Some(first) => (first, size.saturating_sub(1)),
            None => return Part::Whole,
        },
        (false, false) => match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => (first, last.min(size.saturating_sub(1))),
            _ => return Part::Whole,
        },
    };
    if first >= size {
        return Part::Nothing;
    }
    Part::Some { first, last }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of RFC 9110, section 14.1.2, for 10000 bytes.
    #[test]
    fn examples_of_the_rfc() {
        let some = |first, last| Part::Some { first, last };
        for (header, expected) in [
            ("bytes=0-499", some(0, 499)),
            ("bytes=500-999", some(500, 999)),
            ("bytes=-500", some(9500, 9999)),
            ("bytes=9500-", some(9500, 9999)),
            ("bytes=0-0", some(0, 0)),
            ("bytes=9999-99999", some(9999, 9999)),
            ("bytes=10000-", Part::Nothing),
            ("bytes=5-2", Part::Whole),
            ("bytes=0-1,5-6", Part::Whole),
            ("items=0-1", Part::Whole),
        ] {
            assert_eq!(part(Some(header), 10000), expected, "{header}");
        }
        assert_eq!(part(Some("bytes=0-"), 0), Part::Nothing);
        assert_eq!(part(None, 5), Part::Whole);
    }
}
