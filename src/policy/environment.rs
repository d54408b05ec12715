//! What of a request's environment reaches an escalated child, and which variables make a program do what the sandboxed side
//! wants, so that escalating any program would amount to escalating every program.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// Which variables an escalated child may have although they load code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeepEnv {
    /// None of them.
    #[default]
    Nothing,
    /// Those with these names.
    Names(BTreeSet<OsString>),
    /// All of them.
    Everything,
}

/// The protocol's own variables: a patched shell would execute what EXEC_WRAPPER names. No decision keeps them.
const PROTOCOL_VARIABLES: &[&str] = &["EXEC_WRAPPER", "BASH_EXEC_WRAPPER", "CODEX_ESCALATE_SOCKET"];

/// What the dynamic loader and the C library read, then what shells read when they start. Interpreters have such variables too
/// (PYTHONPATH, NODE_OPTIONS, GIT_SSH_COMMAND); they are left to the policy, which knows the program and sees the environment.
const NAMES: &[&str] = &[
    "GLIBC_TUNABLES",
    "GCONV_PATH",
    "BASH_ENV",
    "ENV",
    "SHELLOPTS",
    "BASHOPTS",
    "PS4",
    "ZDOTDIR",
];

/// Prefixes of such names.
const PREFIXES: &[&str] = &["LD_", "BASH_FUNC_"];

/// Whether a variable of this name makes programs load code (`server.env.loader`).
#[must_use]
pub fn loads_code(name: &OsStr) -> bool {
    NAMES.iter().any(|known| name == *known)
        || PREFIXES
            .iter()
            .any(|prefix| name.as_bytes().starts_with(prefix.as_bytes()))
}

/// The part of `env` that an escalated child gets: not the protocol's own variables, and of those that load code only what is
/// kept.
pub(super) fn child_environment(
    env: impl IntoIterator<Item = (OsString, OsString)>,
    keep: &KeepEnv,
) -> Vec<(OsString, OsString)> {
    let kept = |name: &OsStr| match keep {
        KeepEnv::Nothing => false,
        KeepEnv::Names(names) => names.contains(name),
        KeepEnv::Everything => true,
    };
    env.into_iter()
        .filter(|(name, _)| !is_protocols(name) && (!loads_code(name) || kept(name)))
        .collect()
}

fn is_protocols(name: &OsStr) -> bool {
    PROTOCOL_VARIABLES.iter().any(|own| name == *own)
}

/// The names of what `request` has and `child` has not, or has with another value; those that are known to [direct
/// programs](directs_programs) first. The protocol's own variables go without saying.
pub(crate) fn taken_out(request: &[(OsString, OsString)], child: &[(OsString, OsString)]) -> Vec<OsString> {
    let child: HashMap<&OsStr, &OsStr> = child
        .iter()
        .map(|(name, value)| (name.as_os_str(), value.as_os_str()))
        .collect();
    let gone = |(name, value): &&(OsString, OsString)| {
        !is_protocols(name) && child.get(name.as_os_str()).is_none_or(|given| given != value)
    };
    let mut names: Vec<OsString> = request
        .iter()
        .filter(gone)
        .map(|(name, _)| name.clone())
        .collect();
    names.sort_by_cached_key(|name| (!directs_programs(name), name.clone()));
    names
}

/// What makes programs that read it execute something else, or read their configuration somewhere else: by interpreter,
/// build tool, version control, pager or transport. No list of these is complete, which is why a rule of a policy file lists
/// what may pass; a person who is asked is shown these first.
const DIRECTING: &[&str] = &[
    "PATH",
    "HOME",
    "SHELL",
    "IFS",
    "CDPATH",
    "FPATH",
    "TMPDIR",
    "EDITOR",
    "VISUAL",
    "PAGER",
    "MANPAGER",
    "BROWSER",
    "LESS",
    "LESSOPEN",
    "LESSCLOSE",
    "SSH_ASKPASS",
    "SUDO_ASKPASS",
    "SSH_AUTH_SOCK",
    "PERL5LIB",
    "PERL5OPT",
    "PERL5DB",
    "PERLLIB",
    "RUBYOPT",
    "RUBYLIB",
    "NODE_OPTIONS",
    "NODE_PATH",
    "CLASSPATH",
    "JAVA_TOOL_OPTIONS",
    "_JAVA_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "PHPRC",
    "PHP_INI_SCAN_DIR",
    "MAKEFILES",
    "MAKEFLAGS",
    "GNUMAKEFLAGS",
    "MFLAGS",
    "TAR_OPTIONS",
    "RSYNC_RSH",
    "CVS_RSH",
    "CC",
    "CXX",
    "COMPILER_PATH",
    "GCC_EXEC_PREFIX",
    "RUSTFLAGS",
    "GOFLAGS",
    "GTK_MODULES",
    "LOCPATH",
    "NLSPATH",
    "GETCONF_DIR",
    "HOSTALIASES",
    "RES_OPTIONS",
    "TERMINFO",
    "TERMINFO_DIRS",
    "TERMCAP",
    "BASH_XTRACEFD",
    "PROMPT_COMMAND",
    "VIMINIT",
    "EXINIT",
    "WGETRC",
    "CURL_HOME",
    "KUBECONFIG",
    "APT_CONFIG",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// Prefixes of such names, in capitals.
const DIRECTING_PREFIXES: &[&str] = &[
    "GIT_",
    "PYTHON",
    "XDG_",
    "CARGO_",
    "RUSTC",
    "NPM_CONFIG_",
    "PIP_",
    "LUA_",
    "OPENSSL_",
    "DOCKER_",
    "DYLD_",
];

/// Suffixes of such names, in capitals.
const DIRECTING_SUFFIXES: &[&str] = &["_PROXY"];

/// Whether a variable of this name is known to make programs execute, load or trust what it says. All that
/// [load code](loads_code) are among them.
#[must_use]
pub fn directs_programs(name: &OsStr) -> bool {
    let capitals = name.as_bytes().to_ascii_uppercase();
    loads_code(name)
        || DIRECTING.iter().any(|known| name == *known)
        || DIRECTING_PREFIXES
            .iter()
            .any(|prefix| capitals.starts_with(prefix.as_bytes()))
        || DIRECTING_SUFFIXES
            .iter()
            .any(|suffix| capitals.ends_with(suffix.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_to_run_code_is_known() {
        let known = [
            "GIT_SSH_COMMAND",
            "GIT_CONFIG_COUNT",
            "GIT_CONFIG_KEY_0",
            "PATH",
            "LD_PRELOAD",
            "BASH_FUNC_ls%%",
            "PYTHONPATH",
            "PYTHONSTARTUP",
            "PERL5OPT",
            "NODE_OPTIONS",
            "TAR_OPTIONS",
            "MAKEFILES",
            "OPENSSL_CONF",
            "npm_config_script_shell",
            "https_proxy",
        ];
        for name in known {
            assert!(directs_programs(OsStr::new(name)), "{name}");
        }
        for name in ["LANG", "TERM", "USER", "PWD", "PATHS", "GITHUB", "COLUMNS"] {
            assert!(!directs_programs(OsStr::new(name)), "{name}");
        }
    }

    fn names(env: &[&str], keep: &KeepEnv) -> Vec<String> {
        let env: Vec<_> = env
            .iter()
            .map(|name| (OsString::from(name), OsString::new()))
            .collect();
        child_environment(env, keep)
            .into_iter()
            .map(|(name, _)| name.into_string().unwrap())
            .collect()
    }

    const MIXED: &[&str] = &[
        "PATH",
        "LD_PRELOAD",
        "HOME",
        "BASH_FUNC_ls%%",
        "ENV",
        "ENVY",
        "EXEC_WRAPPER",
        "PYTHONPATH",
    ];

    #[test]
    fn variables_that_load_code_do_not_reach_the_child() {
        assert_eq!(
            names(MIXED, &KeepEnv::Nothing),
            ["PATH", "HOME", "ENVY", "PYTHONPATH"]
        );
    }

    #[test]
    fn a_decision_may_keep_some_or_all_of_them() {
        let some = KeepEnv::Names([OsString::from("LD_PRELOAD")].into());
        assert_eq!(
            names(MIXED, &some),
            ["PATH", "LD_PRELOAD", "HOME", "ENVY", "PYTHONPATH"]
        );
        let all = names(MIXED, &KeepEnv::Everything);
        assert_eq!(
            all,
            [
                "PATH",
                "LD_PRELOAD",
                "HOME",
                "BASH_FUNC_ls%%",
                "ENV",
                "ENVY",
                "PYTHONPATH"
            ]
        );
    }

    #[test]
    fn what_was_taken_out_is_named_and_the_dangerous_first() {
        let variables = |pairs: &[(&str, &str)]| -> Vec<(OsString, OsString)> {
            pairs
                .iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect()
        };
        let request = variables(&[
            ("A", "1"),
            ("B", "1"),
            ("EXEC_WRAPPER", "w"),
            ("PATH", "/evil"),
            ("KEPT", "1"),
        ]);
        let child = variables(&[("PATH", "/bin"), ("KEPT", "1"), ("HOME", "/h")]);
        assert_eq!(taken_out(&request, &child), ["PATH", "A", "B"]);
    }
}
