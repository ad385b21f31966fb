//! Which failures are worth another try, and when.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode};

use crate::error::TransportError;
use crate::settings::{AfterRefusal, Retry};

/// Whether the same request may succeed a little later.
pub(super) fn is_passing_status(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        408 | 429 | 499 | 500 | 502 | 503 | 504 | 522
    )
}

/// Whether the same request may get through a little later. An unknown authority will not, and a refused connection
/// only where that is expected.
fn is_passing_failure(error: &TransportError, retry: &Retry) -> bool {
    match error {
        TransportError::Broken { .. }
        | TransportError::Unconnected { .. }
        | TransportError::Timeout { .. } => true,
        TransportError::Refused { .. } => retry.after_refusal == AfterRefusal::TryAgain,
        _ => false,
    }
}

/// The pause before the next try after `failures` failures, the last of which was this one.
pub(super) fn pause_after(
    retry: &Retry,
    failures: usize,
    error: &TransportError,
) -> Option<Duration> {
    let own = pause(retry, failures, None);
    own.filter(|_| is_passing_failure(error, retry))
}

/// How long the server asks to wait: seconds or a date (RFC 9110, 10.2.3).
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers
        .get(http::header::RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or(Duration::ZERO))
}

/// The pause before the next try after `failures` failures; `None` when there is to be none.
pub(super) fn pause(retry: &Retry, failures: usize, asked: Option<Duration>) -> Option<Duration> {
    let own = *retry.pauses.get(failures.checked_sub(1)?)?;
    match asked {
        Some(asked) if asked > retry.longest_wait => None,
        Some(asked) => Some(asked.max(own)),
        None => Some(own),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(value: &str) -> Option<Duration> {
        let headers = HeaderMap::from_iter([(http::header::RETRY_AFTER, value.parse().unwrap())]);
        // RFC 9110's own example date, 30 seconds earlier.
        let now = httpdate::parse_http_date("Fri, 31 Dec 1999 23:59:29 GMT").unwrap();
        retry_after(&headers, now)
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(asked("120"), Some(Duration::from_secs(120)));
        assert_eq!(
            asked("Fri, 31 Dec 1999 23:59:59 GMT"),
            Some(Duration::from_secs(30))
        );
        assert_eq!(asked("Fri, 31 Dec 1999 23:59:00 GMT"), Some(Duration::ZERO));
        assert_eq!(asked("soon"), None);
    }

    #[test]
    fn pauses_follow_the_list_and_the_server() {
        let retry = Retry::default();
        let seconds = Duration::from_secs;
        assert_eq!(pause(&retry, 1, None), Some(seconds(1)));
        assert_eq!(pause(&retry, 2, None), Some(seconds(3)));
        assert_eq!(pause(&retry, 3, None), None);
        assert_eq!(pause(&retry, 1, Some(seconds(7))), Some(seconds(7)));
        assert_eq!(pause(&retry, 2, Some(seconds(0))), Some(seconds(3)));
        assert_eq!(
            pause(&retry, 1, Some(seconds(3600))),
            None,
            "an hour is not waited for"
        );
        assert_eq!(pause(&Retry::never(), 1, None), None);
    }

    #[test]
    fn only_passing_statuses_are_tried_again() {
        for status in [408, 429, 500, 502, 503, 504, 499, 522] {
            assert!(
                is_passing_status(StatusCode::from_u16(status).unwrap()),
                "{status}"
            );
        }
        for status in [200, 400, 401, 403, 404, 416, 501, 505] {
            assert!(
                !is_passing_status(StatusCode::from_u16(status).unwrap()),
                "{status}"
            );
        }
    }
}
