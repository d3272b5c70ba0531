//! The rate of an open loop.

use std::{fmt, str::FromStr};

/// A rate as given on the command line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// A share of the target's rate in the closed loop of the same round with the same number of
    /// connections.
    Share(f64),
    /// The same for all targets.
    PerSecond(f64),
    /// No open loop.
    None,
}

impl Rate {
    /// Requests a second, where `closed` is the rate of the closed loop.
    pub(super) fn per_second(self, closed: f64, max: u32) -> Option<f64> {
        let rate = match self {
            Self::Share(share) => closed * share,
            Self::PerSecond(rate) => rate,
            Self::None => return None,
        };
        // A target that answered nothing has no rate; one request a second shows whether it does.
        Some(rate.clamp(1.0, f64::from(max)))
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::None);
        }
        let (digits, absolute) = text.strip_suffix("/s").map_or((text, false), |text| (text, true));
        let value: f64 = digits.parse().map_err(|_| "neither a number nor `none`".to_owned())?;
        match absolute {
            true if (1.0..=1e6).contains(&value) => Ok(Self::PerSecond(value)),
            false if value > 0.0 && value <= 2.0 => Ok(Self::Share(value)),
            true => Err("a rate is 1/s to 1000000/s".into()),
            false => Err("a share is above 0, at most 2; a rate ends with /s".into()),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share(share) => write!(f, "{:.0} %", share * 100.0),
            Self::PerSecond(rate) => write!(f, "{rate:.0}/s"),
            Self::None => f.write_str("none"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_share_or_a_number_per_second() {
        assert_eq!("0.5".parse(), Ok(Rate::Share(0.5)));
        assert_eq!("5000/s".parse(), Ok(Rate::PerSecond(5_000.0)));
        assert_eq!("none".parse(), Ok(Rate::None));
        for text in ["", "x", "5000", "0", "-1", "0/s", "nan", "inf/s"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_share_is_bounded() {
        assert_eq!(Rate::Share(0.5).per_second(1_000.0, 100_000), Some(500.0));
        assert_eq!(Rate::Share(0.5).per_second(1e6, 100_000), Some(100_000.0));
        assert_eq!(Rate::Share(0.5).per_second(0.0, 100_000), Some(1.0));
        assert_eq!(Rate::None.per_second(1_000.0, 100_000), None);
    }
}
