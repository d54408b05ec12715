//! Versions of the suite, as requirements and cases carry them.

use std::fmt;
use std::str::FromStr;

/// Major, minor and patch number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version([u64; 3]);

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbers: Option<Vec<u64>> = text.split('.').map(|part| part.parse().ok()).collect();
        numbers
            .and_then(|numbers| numbers.try_into().ok())
            .map(Version)
            .ok_or_else(|| format!("'{text}' is not a version; expected three numbers, such as 0.1.0"))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.0;
        write!(formatter, "{major}.{minor}.{patch}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_their_numbers() {
        let version = |text: &str| text.parse::<Version>().expect(text);
        assert!(version("0.10.0") > version("0.9.12"));
        assert_eq!(version("1.2.3").to_string(), "1.2.3");
        for wrong in ["1", "1.2", "1.2.x", "", "1.2.3.4"] {
            assert!(wrong.parse::<Version>().is_err(), "{wrong}");
        }
    }
}
