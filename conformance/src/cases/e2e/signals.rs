//! e2e.signals: what a script sends to its background commands.

use crate::case::context::Context;
use crate::case::{Table, case};
use crate::peer::signals::{deadly, forwarded};
use crate::spec::requirements::Role;
use crate::stage::e2e::{commands, same_under_both};
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::E2e, &[
    case("e2e.signals/handled", handled).within_seconds(120),
    case("e2e.signals/by-default", by_default).within_seconds(120),
]).needs("signals");

fn script(signals: impl Iterator<Item = i32>, word: &str) -> String {
    let numbers: Vec<String> = signals.map(|signal| signal.to_string()).collect();
    format!(
        "d=ready-$$; mkdir $d; for n in {}; do it {word} & until [ -e $d/$n ]; do :; done; kill -$n $!; wait $!; echo $n $?; done 2>/dev/null",
        numbers.join(" ")
    )
}

/// A command that waits for any signal gets it, INT and QUIT included, which a background command starts with ignored.
fn handled(context: &mut Context) -> Verdict {
    commands(context, ["it"])?;
    let script = script(forwarded(), "await:$d/$n");
    same_under_both(context, &script, &["it"])
}

/// A signal that ends a command by default ends it, with the same status, unless the shell has it ignored.
fn by_default(context: &mut Context) -> Verdict {
    commands(context, ["it"])?;
    let of_background = [libc::SIGINT, libc::SIGQUIT];
    let signals = deadly().filter(|signal| !of_background.contains(signal) && ![32, 33].contains(signal));
    let script = script(signals, "touch:$d/$n pause");
    same_under_both(context, &format!("ulimit -c 0; {script}"), &["it"])
}
