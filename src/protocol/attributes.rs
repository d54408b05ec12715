//! What the escalated child is to inherit of the wrapper (extension *inherited*).

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The resources of getrlimit(2), by their names in messages; the place is the number on Linux.
pub(super) const RESOURCES: [&str; 16] = [
    "cpu",
    "fsize",
    "data",
    "stack",
    "core",
    "rss",
    "nproc",
    "nofile",
    "memlock",
    "as",
    "locks",
    "sigpending",
    "msgqueue",
    "nice",
    "rtprio",
    "rttime",
];

/// Signals, bit N-1 for signal N.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SignalSet(pub u64);

impl<'de> Deserialize<'de> for SignalSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Numbers;
        impl<'de> Visitor<'de> for Numbers {
            type Value = SignalSet;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("an array of signal numbers")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<SignalSet, A::Error> {
                let mut set = 0;
                while let Some(signal) = sequence.next_element::<u64>()? {
                    if !(1..=64).contains(&signal) {
                        return Err(de::Error::custom("no such signal"));
                    }
                    set |= 1 << (signal - 1);
                }
                Ok(SignalSet(set))
            }
        }
        deserializer.deserialize_seq(Numbers)
    }
}

/// Soft and hard limit; `None` is none.
pub(super) type Limits = [Option<u64>; 2];

/// Limits by resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResourceLimits(pub(super) [Option<Limits>; RESOURCES.len()]);

impl ResourceLimits {
    /// The resources that have limits here, by their numbers on Linux, with soft and hard limit as the kernel has them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, u64, u64)> {
        (0..).zip(&self.0).filter_map(|(resource, limits)| {
            let [soft, hard] = (*limits)?.map(|limit| limit.unwrap_or(libc::RLIM_INFINITY));
            Some((resource, soft, hard))
        })
    }
}

impl<'de> Deserialize<'de> for ResourceLimits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = ResourceLimits;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("an object of limits")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ResourceLimits, A::Error> {
                let mut limits = ResourceLimits::default();
                while let Some(name) = map.next_key::<String>()? {
                    match RESOURCES.iter().position(|known| *known == name) {
                        Some(place) => limits.0[place] = Some(map.next_value()?),
                        None => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(limits)
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{DescriptorMessage, parse};

    #[test]
    fn what_a_child_inherits_is_understood() {
        let text =
            br#"{"fds":[],"ignored":[1,64],"limits":{"core":[0,null],"rttime":[5,6],"new":{}},"nice":-3}"#;
        let message: DescriptorMessage = parse(text).unwrap();
        assert_eq!(message.ignored, SignalSet(1 | 1 << 63));
        let limits: Vec<_> = message.limits.iter().collect();
        assert_eq!(
            limits,
            [
                (libc::RLIMIT_CORE, 0, libc::RLIM_INFINITY),
                (libc::RLIMIT_RTTIME, 5, 6)
            ]
        );
        assert_eq!(message.nice, Some(-3));
    }

    #[test]
    fn other_types_and_impossible_numbers_are_refused() {
        for member in [
            r#""ignored":{}"#,
            r#""ignored":[0]"#,
            r#""ignored":[65]"#,
            r#""ignored":[-1]"#,
            r#""ignored":["HUP"]"#,
            r#""limits":[]"#,
            r#""limits":{"core":0}"#,
            r#""limits":{"core":[0]}"#,
            r#""limits":{"core":[0,0,0]}"#,
            r#""limits":{"core":[-1,0]}"#,
            r#""nice":"5""#,
            r#""group":1"#,
        ] {
            let text = format!(r#"{{"fds":[],{member}}}"#);
            assert!(parse::<DescriptorMessage>(text.as_bytes()).is_err(), "{text}");
        }
    }
}
