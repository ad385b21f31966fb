//! The port specifications of `EXPOSE`.

use std::fmt;

/// An exposed port, shown as the image config writes it: `8080/tcp`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// The number.
    pub number: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: &'static str,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.protocol)
    }
}

/// Why a specification is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// No number and no range of numbers up to 65535.
    #[error("`{0}` is no port; write a number or a range, for example 8080 or 7000-7010/udp")]
    Number(String),
    /// A range that ends before it starts.
    #[error("the port range `{0}` ends before it starts; exchange its ends")]
    Reversed(String),
    /// A protocol that is not one of the three.
    #[error("`{protocol}` in `{spec}` is no protocol; write tcp, udp or sctp")]
    Protocol {
        /// The whole specification.
        spec: String,
        /// Its protocol.
        protocol: String,
    },
}

/// The ports of one expanded word of an `EXPOSE`: `80`, `80/udp`, `7000-7010/tcp`. As in Docker,
/// the host part of `host:80` and `127.0.0.1:8080:80` says nothing about the image and is
/// dropped ([`crate::lint::Rule::ExposeInvalidFormat`] remarks on it).
pub fn parse(spec: &str) -> Result<Vec<Port>, PortError> {
    let (range, protocol) = match spec.split_once('/') {
        Some((range, "")) => (range, "tcp"),
        Some((range, protocol)) => (range, protocol),
        None => (spec, "tcp"),
    };
    let protocol = ["tcp", "udp", "sctp"]
        .into_iter()
        .find(|known| known.eq_ignore_ascii_case(protocol))
        .ok_or_else(|| PortError::Protocol {
            spec: spec.to_owned(),
            protocol: protocol.to_owned(),
        })?;
    let range = range.rsplit(':').next().unwrap_or(range);
    let number = |text: &str| -> Result<u16, PortError> {
        // A plus sign is part of a number (Go's `strconv.Atoi`), as it is in Rust.
        text.parse().map_err(|_| PortError::Number(spec.to_owned()))
    };
    let (first, last) = match range.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(range)?, number(range)?),
    };
    if last < first {
        return Err(PortError::Reversed(spec.to_owned()));
    }
    Ok((first..=last)
        .map(|number| Port { number, protocol })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(spec: &str) -> Vec<String> {
        parse(spec)
            .map(|ports| ports.iter().map(Port::to_string).collect())
            .unwrap_or_default()
    }

    #[test]
    fn a_specification_is_a_number_or_a_range_with_a_protocol() {
        assert_eq!(ports("80"), ["80/tcp"]);
        assert_eq!(ports("53/UDP"), ["53/udp"]);
        assert_eq!(ports("80/"), ["80/tcp"]);
        assert_eq!(
            ports("7000-7002/sctp"),
            ["7000/sctp", "7001/sctp", "7002/sctp"]
        );
        assert_eq!(ports("65535-65535"), ["65535/tcp"]);
        assert_eq!(ports("127.0.0.1:8080:80"), ["80/tcp"]);
        assert_eq!(ports("+80"), ["80/tcp"]);
    }

    #[test]
    fn what_is_no_port_is_refused() {
        for spec in ["", "/tcp", "http", "65536", "-1", "+", "80-", "1-2-3"] {
            assert_eq!(
                parse(spec),
                Err(PortError::Number(spec.to_owned())),
                "{spec:?}"
            );
        }
        assert_eq!(parse("90-80"), Err(PortError::Reversed("90-80".to_owned())));
        let wrong = PortError::Protocol {
            spec: "80/icmp".to_owned(),
            protocol: "icmp".to_owned(),
        };
        assert_eq!(parse("80/icmp"), Err(wrong));
    }
}
