//! What a person needs to know to answer.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;

use shell_escalation::{Execution, Question, directs_programs};

/// A question is shown whole or not asked: with more characters than these, no one would read all of them, and a part that
/// matters could hide among the rest.
const MOST_CHARACTERS: usize = 4000;

/// A question that no person would read.
#[derive(Debug, thiserror::Error)]
#[error(
    "needs approval, but has too much to show to a person ({0} characters, at most {MOST_CHARACTERS}): \
     shorten its arguments, or give its rule an `env` list"
)]
pub(super) struct TooLong(usize);

/// Where and how a command is executed, in words.
pub(super) fn place(execution: &Execution) -> String {
    match execution {
        Execution::Unsandboxed => "outside the sandbox".to_owned(),
        Execution::SameSandbox => "under the server's supervision, in the shell's sandbox".to_owned(),
        Execution::Profile(name) => format!("in the sandbox profile {name}"),
        other => format!("as {other:?}"),
    }
}

/// The text of a question. The sandboxed side chose all of it, so it is escaped before it reaches the terminal.
///
/// # Errors
/// When it can't be shown whole.
pub(super) fn question(
    asked: &Question<'_>,
    environment: &BTreeMap<OsString, OsString>,
) -> Result<String, TooLong> {
    let request = asked.request;
    let place = place(&request.execution);
    let mut text = format!("\nA command asks to run {place}:\n");
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "  {name:<12}{value}");
    };
    line("program", &shown(request.program.as_os_str()));
    if let Some(canonical) = request
        .canonical
        .as_deref()
        .filter(|path| *path != request.program)
    {
        line("resolves to", &shown(canonical.as_os_str()));
    }
    let arguments: Vec<String> = request.argv.iter().map(|argument| shown(argument)).collect();
    line("arguments", &arguments.join(" "));
    line("directory", &shown(request.workdir.as_os_str()));
    if let Some(canonical) = request
        .canonical_workdir
        .as_deref()
        .filter(|path| *path != request.workdir)
    {
        line("resolves to", &shown(canonical.as_os_str()));
    }
    for (index, difference) in differences(&request.env, environment).iter().enumerate() {
        line(if index == 0 { "environment" } else { "" }, difference);
    }
    if let Some(umask) = request.umask.filter(|umask| umask & 0o002 == 0) {
        line(
            "umask",
            &format!("{umask:03o}: others may write to what it creates"),
        );
    }
    if request.in_place {
        line(
            "in place",
            "a script is read from its file while it runs: what is written there after your answer is executed, too",
        );
    }
    if let Some(reason) = asked.reason {
        line("reason", reason);
    }
    line("rule", asked.rule);
    if asked.once {
        line(
            "a yes holds",
            "for this same command in every session, until its program file changes",
        );
    }
    match text.chars().count() {
        long if long > MOST_CHARACTERS => Err(TooLong(long)),
        _ => Ok(text),
    }
}

/// How an environment differs from the shell's: first the variables that are known to direct programs, then those that were
/// changed, then those that were added, each in the order of their names; then the names of those that are gone.
fn differences(env: &[(OsString, OsString)], base: &BTreeMap<OsString, OsString>) -> Vec<String> {
    let env: BTreeMap<&OsStr, &OsStr> = env
        .iter()
        .map(|(name, value)| (name.as_os_str(), value.as_os_str()))
        .collect();
    let mut found = Vec::new();
    for (name, value) in &env {
        let before = base.get(*name);
        if before.is_some_and(|before| before == value) {
            continue;
        }
        let directs = directs_programs(name);
        let value = if is_secret(name) && !directs {
            "(hidden)".to_owned()
        } else {
            shown(value)
        };
        let verb = if before.is_some() { "changed" } else { "added  " };
        let text = format!("{verb} {}={value}", shown(name));
        found.push(((!directs, before.is_none()), text));
    }
    found.sort_by_key(|(order, _)| *order);
    let mut found: Vec<String> = found.into_iter().map(|(_, text)| text).collect();
    let gone = base.keys().filter(|name| !env.contains_key(name.as_os_str()));
    let mut gone: Vec<&OsString> = gone.collect();
    gone.sort_by_key(|name| !directs_programs(name));
    if !gone.is_empty() {
        let named: Vec<String> = gone.iter().take(MOST_REMOVED).map(|name| shown(name)).collect();
        let more = gone.len() - named.len();
        let more = if more == 0 {
            String::new()
        } else {
            format!(" and {more} more")
        };
        found.push(format!("removed {}{more}", named.join(", ")));
    }
    found
}

/// Names of variables that are gone; a command can do less without the others.
const MOST_REMOVED: usize = 20;

fn is_secret(name: &OsStr) -> bool {
    let name = name.to_string_lossy().to_uppercase();
    ["KEY", "TOKEN", "SECRET", "PASSW", "CREDENTIAL", "AUTH"]
        .iter()
        .any(|part| name.contains(part))
}

/// The text in printable characters on one line, quoted if spaces or other characters could mislead.
pub(super) fn shown(text: &OsStr) -> String {
    let text = text.to_string_lossy();
    let plain = |character: char| character.is_ascii_alphanumeric() || "_-./,:=+@%~^".contains(character);
    if !text.is_empty() && text.chars().all(plain) {
        text.into_owned()
    } else {
        // This also escapes bidi controls and zero-width joiners.
        format!("\"{}\"", text.escape_debug())
    }
}

#[cfg(test)]
mod tests {
    use shell_escalation::PolicyRequest;

    use super::*;

    fn about(request: &PolicyRequest, environment: &BTreeMap<OsString, OsString>) -> Result<String, TooLong> {
        question(&Question::new(1, request), environment)
    }

    fn with_env(env: &[(&str, &str)]) -> PolicyRequest {
        let mut request = PolicyRequest::new("/bin/true");
        request.env = env
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        request
    }

    #[test]
    fn a_question_shows_what_matters_and_escapes_it() {
        let mut request = with_env(&[
            ("PATH", "/evil:/bin"),
            ("HOME", "/root"),
            ("API_TOKEN", "hunter2"),
            ("AAA", "1"),
            ("CHANGED", "2"),
            ("GIT_CONFIG_KEY_0", "core.sshCommand"),
            ("N\u{7}", "1"),
        ]);
        request.program = "/opt/tool\u{1b}[2J".into();
        request.canonical = Some("/srv/tool".into());
        request.canonical_workdir = Some("/srv/me".into());
        request.umask = Some(0o20);
        request.in_place = true;
        let long = "x".repeat(300);
        request.argv = [
            "tool",
            "",
            "two words",
            "line\nbreak",
            "right\u{202e}left",
            "it's",
            &long,
        ]
        .map(Into::into)
        .to_vec();
        request.workdir = "/home/me".into();
        let base = [
            ("PATH", "/bin"),
            ("HOME", "/root"),
            ("LANG", "C"),
            ("CHANGED", "1"),
        ];
        let base = base.map(|(name, value)| (name.into(), value.into())).into();
        let mut asked = Question::new(1, &request);
        asked.rule = "line 6";
        asked.reason = Some("it reaches the network");
        asked.once = true;
        insta::assert_snapshot!(question(&asked, &base).unwrap());
    }

    #[test]
    fn a_question_says_where_the_command_would_run() {
        let first_line = |execution: Execution| {
            let mut request = PolicyRequest::new("/bin/true");
            request.execution = execution;
            let text = about(&request, &BTreeMap::new()).unwrap();
            text.trim_start().lines().next().unwrap().to_owned()
        };
        assert_eq!(
            first_line(Execution::Unsandboxed),
            "A command asks to run outside the sandbox:"
        );
        assert_eq!(
            first_line(Execution::Profile("online".to_owned())),
            "A command asks to run in the sandbox profile online:"
        );
    }

    #[test]
    fn characters_without_a_glyph_are_shown_by_their_numbers() {
        let invisible = [
            '\u{200b}'..='\u{200f}',
            '\u{202a}'..='\u{202e}',
            '\u{2060}'..='\u{206f}',
            '\u{feff}'..='\u{feff}',
        ];
        for character in invisible.into_iter().flatten() {
            let text = format!("a{character}b");
            assert_eq!(
                shown(OsStr::new(&text)),
                format!("\"a{}b\"", character.escape_unicode())
            );
        }
    }

    #[test]
    fn no_number_of_variables_hides_one_that_matters() {
        let junk: Vec<String> = (0..60).map(|number| format!("A{number:02}")).collect();
        let mut env: Vec<(&str, &str)> = junk.iter().map(|name| (&**name, "1")).collect();
        env.push(("GIT_SSH_COMMAND", "evil"));
        env.push(("B", "changed"));
        let base = BTreeMap::from([("B".into(), "".into())]);
        let text = about(&with_env(&env), &base).unwrap();
        let position = |part: &str| {
            text.find(part)
                .unwrap_or_else(|| panic!("{part} is missing: {text}"))
        };
        assert!(position("environment added   GIT_SSH_COMMAND=evil") < position("changed B=changed"));
        assert!(position("changed B=changed") < position("added   A00=1"));
        assert!(position("added   A00=1") < position("added   A59=1"));
    }

    #[test]
    fn what_cannot_be_shown_whole_is_not_asked() {
        let mut request = PolicyRequest::new("/bin/true");
        let mut length = |more: usize| {
            request.argv = vec!["true".into(), format!("{}; rm -rf ~", "x".repeat(more)).into()];
            about(&request, &BTreeMap::new()).map(|text| text.chars().count())
        };
        let least = length(0).unwrap();
        assert_eq!(length(MOST_CHARACTERS - least).unwrap(), MOST_CHARACTERS);
        let refused = length(MOST_CHARACTERS - least + 1).unwrap_err().to_string();
        assert_eq!(
            refused,
            "needs approval, but has too much to show to a person (4001 characters, at most 4000): \
             shorten its arguments, or give its rule an `env` list"
        );
    }

    #[test]
    fn what_is_gone_is_named() {
        let names: Vec<OsString> = (0..30).map(|number| format!("V{number:02}").into()).collect();
        let mut base: BTreeMap<OsString, OsString> =
            names.into_iter().map(|name| (name, "".into())).collect();
        base.insert("PATH".into(), "/bin".into());
        let text = about(&with_env(&[]), &base).unwrap();
        assert!(text.contains("removed PATH, V00, V01"), "{text}");
        assert!(text.contains("V18 and 11 more\n"), "{text}");
    }
}
