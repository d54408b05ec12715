//! The suite: every case there is, and what a run makes of them.

pub mod baseline;
pub mod selection;

use std::sync::LazyLock;

use crate::case::{Case, Table};
use crate::cases;

/// Every case of the suite, in the order of the tables.
pub fn all() -> Vec<Case> {
    static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
        let tables = cases::AREAS.iter().copied().flatten();
        tables.flat_map(Table::cases).collect()
    });
    CASES.clone()
}

/// The case of that id.
pub fn find(id: &str) -> Option<Case> {
    all().into_iter().find(|case| case.id == id)
}

/// The known id that is nearest to `id`, which may be a glob, for "did you mean": one that begins like it, otherwise by
/// the requirement first and by the variation then.
pub fn nearest<'a>(id: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    fn parts(id: &str) -> (&str, &str) {
        id.split_once('/').unwrap_or((id, ""))
    }
    let beginning = id.trim_end_matches(['*', '.', '/']);
    let (requirement, variation) = parts(id);
    known.into_iter().min_by_key(|candidate| {
        let (of_candidate, its_variation) = parts(candidate);
        (
            beginning.is_empty() || !candidate.starts_with(beginning),
            strsim::damerau_levenshtein(requirement, of_candidate),
            strsim::damerau_levenshtein(variation, its_variation),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_id_is_what_was_meant() {
        let near = |id| nearest(id, all().iter().map(|case| case.id)).map(str::to_owned);
        for (written, meant) in [
            (
                "wrapper.deny.massage/with-reason",
                "wrapper.deny.message/with-reason",
            ),
            (
                "wrapper.deny.message/with-raeson",
                "wrapper.deny.message/with-reason",
            ),
            ("wrapper.deny.statu/*", "wrapper.deny.status/is-one"),
        ] {
            assert_eq!(near(written).as_deref(), Some(meant), "{written}");
        }
        for written in ["wrapper.deny.massage/*", "wrapper.deny", "wrapper.deny.*"] {
            let found = near(written).expect("some id");
            assert!(found.starts_with("wrapper.deny."), "{written}: {found}");
        }
    }

    #[test]
    fn no_two_cases_have_the_same_id() {
        let mut ids: Vec<&str> = all().iter().map(|case| case.id).collect();
        ids.sort_unstable();
        let twice: Vec<_> = ids
            .windows(2)
            .filter(|pair| pair[0] == pair[1])
            .map(|pair| pair[0])
            .collect();
        assert_eq!(twice, Vec::<&str>::new());
    }
}
