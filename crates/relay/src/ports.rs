//! The ports that listeners may have.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

/// Ports that listeners get, or the kernel's choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PortRange {
    /// The kernel chooses.
    #[default]
    Any,
    /// One of these, from the first to the last.
    Between(u16, u16),
}

/// Not a range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRangeError;

impl PortRange {
    /// The ports to try, beginning with the one at `start`, so that a port is not soon used again.
    pub(crate) fn candidates(self, start: usize) -> impl Iterator<Item = u16> {
        let (first, last) = match self {
            Self::Any => (0, 0),
            Self::Between(first, last) => (first, last),
        };
        let size = usize::from(last - first) + 1;
        (0..size).map(move |step| {
            let offset = u16::try_from((start + step) % size).unwrap_or_default();
            first + offset
        })
    }
}

/// As upstream reads it: `a-b`, `a+n`, or a single port; empty, 0 and 0-0 leave it to the kernel.
impl FromStr for PortRange {
    type Err = PortRangeError;

    fn from_str(text: &str) -> Result<Self, PortRangeError> {
        let number = |text: &str| text.trim().parse::<u16>().map_err(|_| PortRangeError);
        let text = text.trim();
        let (first, last) = if text.is_empty() {
            (0, 0)
        } else if let Some((first, last)) = text.split_once('-') {
            (number(first)?, number(last)?)
        } else if let Some((first, more)) = text.split_once('+') {
            let first = number(first)?;
            (first, first.checked_add(number(more)?).ok_or(PortRangeError)?)
        } else {
            (number(text)?, number(text)?)
        };
        match (first, last) {
            (0, 0) => Ok(Self::Any),
            (first, last) if 0 < first && first <= last => Ok(Self::Between(first, last)),
            _ => Err(PortRangeError),
        }
    }
}

impl Display for PortRangeError {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        out.write_str("must be a range of ports like 40000-41000, 40000+1000 or 40000")
    }
}

impl std::error::Error for PortRangeError {}

#[cfg(test)]
mod tests {
    use super::{PortRange, PortRangeError};

    #[test]
    fn ranges_read_as_upstream_reads_them() {
        let rows = [
            ("", Ok(PortRange::Any)),
            ("0", Ok(PortRange::Any)),
            ("0-0", Ok(PortRange::Any)),
            ("40000-40010", Ok(PortRange::Between(40000, 40010))),
            ("40000+10", Ok(PortRange::Between(40000, 40010))),
            ("40000", Ok(PortRange::Between(40000, 40000))),
            ("2-1", Err(PortRangeError)),
            ("0-9", Err(PortRangeError)),
            ("65000+1000", Err(PortRangeError)),
            ("ports", Err(PortRangeError)),
        ];
        for (text, expected) in rows {
            assert_eq!(text.parse(), expected, "{text}");
        }
    }

    #[test]
    fn every_port_is_tried_once_wherever_it_begins() {
        let tried: Vec<u16> = PortRange::Between(7, 9).candidates(5).collect();
        assert_eq!(tried, [9, 7, 8]);
        assert_eq!(PortRange::Any.candidates(5).collect::<Vec<_>>(), [0]);
    }
}
