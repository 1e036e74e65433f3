//! Native equivalents of slow programs that maintainer scripts call: the same files and the same words, or no answer.
//!
//! A program is known by the SHA-256 of its own file and of what it sources. Whatever was not proven for exactly these bytes,
//! and whatever stands in the tree in another way than it usually does, is left to the original: everything is decided before the
//! first write.
//! The caller has to be root, in the tree's own mount namespace, with the root of the tree as its root.

mod apache;
mod php;
mod small;
mod systemd;
mod tree;
mod ucf;

use std::io;
use std::path::Path;

use tree::{Seen, Tree};

/// Where the programs that shims cover are kept, each under its own name. What is not there is read at its usual path.
pub const ORIGINALS: &str = "/run/parvis/originals";

/// One call of a program from inside the sandbox.
pub struct Call<'a> {
    pub program: &'a str,
    /// The arguments after the name of the program.
    pub arguments: &'a [Vec<u8>],
    pub environment: &'a [(Vec<u8>, Vec<u8>)],
    /// The working folder.
    pub folder: &'a [u8],
    pub umask: u32,
}

/// What the caller gets to see.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reply {
    pub code: u8,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

/// A file whose bytes decide how a program behaves.
#[derive(Debug, Clone, Copy)]
pub struct Original {
    pub path: &'static str,
    /// What follows this beginning of a line counts for nothing: a version number that each update changes.
    pub mask: &'static str,
    /// The known digests, SHA-256 in hexadecimal.
    pub digests: &'static [&'static str],
}

impl Original {
    const fn new(path: &'static str, digests: &'static [&'static str]) -> Self {
        Self { path, mask: "", digests }
    }

    /// Says whether the file is one of those known; a program may be covered by a shim, and lie aside under a name.
    fn is_known(&self, tree: &Tree, name: &str) -> Option<bool> {
        let aside = format!("{ORIGINALS}/{name}");
        let digest = tree.digest(if tree.has_file(&aside)? { &aside } else { self.path }, self.mask)?;
        Some(self.digests.contains(&&*digest))
    }
}

/// A program that has an equivalent.
pub struct Program {
    pub name: &'static str,
    /// The program itself, as it lies in its package.
    pub original: Original,
    /// What else decides how it behaves.
    pub companions: &'static [Original],
    /// What it starts from `PATH`, which must not be something else.
    tools: &'static [&'static str],
    is_script: bool,
    answer: fn(&Tree, &Call<'_>) -> Option<Reply>,
}

impl Program {
    /// Says whether the tree below `root` holds this program in a form for which the equivalent was proven.
    #[must_use]
    pub fn is_known(&self, root: &Path) -> bool {
        Tree::open(root).and_then(|tree| self.is_known_in(&tree)) == Some(true)
    }

    fn is_known_in(&self, tree: &Tree) -> Option<bool> {
        let mut known = self.original.is_known(tree, self.name)?;
        for companion in self.companions {
            known = known && companion.is_known(tree, companion.path.rsplit('/').next()?)?;
        }
        if self.is_script {
            known = known && matches!(tree.look("/usr/bin/sh")?, Seen::Link(text) if text == b"dash");
        }
        Some(known)
    }
}

/// Returns the programs, with the path each is installed at and the digests of the originals for which the equivalent was proven.
#[must_use]
pub fn programs() -> &'static [Program] {
    &PROGRAMS
}

/// Answers a call, or nothing: then nothing was written and the original has to run.
#[must_use]
pub fn answer(root: &Path, call: &Call<'_>) -> Option<Reply> {
    let program = PROGRAMS.iter().find(|program| program.name == call.program)?;
    if call.umask != 0o022 || call.folder.first() != Some(&b'/') {
        return None;
    }
    let tree = Tree::open(root)?;
    if !is_usual(call) || !has_locale(&tree, call)? || !finds_its_tools(&tree, call, program)? || !program.is_known_in(&tree)? {
        return None;
    }
    (program.answer)(&tree, call)
}

impl Call<'_> {
    /// Returns the value of a variable that counts only when it is not empty.
    fn variable(&self, name: &str) -> Option<&[u8]> {
        let found = self.environment.iter().find(|(key, _)| key == name.as_bytes())?;
        Some(&*found.1).filter(|value| !value.is_empty())
    }

    /// Returns the arguments, when each is made of the characters that no shell, pattern or expression gives a meaning.
    fn words(&self) -> Option<Vec<&str>> {
        self.arguments.iter().map(|argument| word(argument)).collect()
    }
}

/// Says whether the environment holds nothing that bends shells, perl or the programs' own ways.
fn is_usual(call: &Call<'_>) -> bool {
    const BENDING: [&[u8]; 9] = [b"LD_", b"PERL", b"APACHE", b"UCF_", b"_DEB_", b"DEB_", b"POSIX", b"GLIBC_", b"DPKG_COLORS"];
    let mut names: Vec<&[u8]> = call.environment.iter().map(|(name, _)| &**name).collect();
    names.sort_unstable();
    let twice = names.windows(2).any(|pair| pair[0] == pair[1]);
    !twice
        && call.environment.iter().all(|(name, value)| {
            let identifier = !name.is_empty()
                && !name[0].is_ascii_digit()
                && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
            let bending = BENDING.iter().any(|start| name.starts_with(start)) && name != b"PERL_DL_NONLAZY";
            let fits = match &**name {
                b"DPKG_ROOT" | b"DPKG_DEBUG" | b"DPKG_DATADIR" | b"LANGUAGE" | b"IFS" | b"ENV" | b"OPTIND" | b"GREP_COLORS"
                | b"CDPATH" | b"LINENO" | b"PPID" => value.is_empty(),
                b"DPKG_ADMINDIR" => value == b"/var/lib/dpkg",
                name if name == b"LANG" || name.starts_with(b"LC_") => {
                    matches!(&**value, b"" | b"C" | b"POSIX" | b"C.UTF-8" | b"C.utf8")
                }
                _ => true,
            };
            identifier && !bending && fits
        })
}

/// Says whether the locale that the environment names is installed: perl complains of one that is not.
fn has_locale(tree: &Tree, call: &Call<'_>) -> Option<bool> {
    let named =
        call.environment.iter().any(|(name, value)| (name == b"LANG" || name.starts_with(b"LC_")) && value.starts_with(b"C."));
    Some(!named || tree.has_file("/usr/lib/locale/C.utf8/LC_CTYPE")?)
}

/// Says whether what the program starts is found where the distribution puts it.
fn finds_its_tools(tree: &Tree, call: &Call<'_>, program: &Program) -> Option<bool> {
    for folder in call.variable("PATH")?.split(|byte| *byte == b':') {
        match folder {
            b"/usr/sbin" | b"/usr/bin" | b"/sbin" | b"/bin" => {}
            b"/usr/local/sbin" | b"/usr/local/bin" => {
                let names = tree.names(std::str::from_utf8(folder).ok()?)?;
                if names.iter().any(|name| program.tools.contains(&&**name)) {
                    return Some(false);
                }
            }
            _ => return Some(false),
        }
    }
    Some(true)
}

/// Returns an argument made of letters, digits and `._+:~-` that is no option.
fn word(argument: &[u8]) -> Option<&str> {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"._+:~-".contains(byte);
    let plain = argument.iter().all(plain) && argument.first().is_some_and(|first| *first != b'~');
    std::str::from_utf8(argument).ok().filter(|_| plain)
}

/// Returns a word that can be the name of a file.
fn name(argument: &str) -> Option<&str> {
    (!argument.starts_with(['-', '.']) && !argument.contains(['~', ':'])).then_some(argument)
}

/// Returns an absolute path whose parts are plain names.
fn path(argument: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(argument).ok()?;
    let plain = text.strip_prefix('/')?.split('/').all(|part| {
        let ordinary = |byte: u8| byte.is_ascii_alphanumeric() || b"._+:~@%,=-".contains(&byte);
        !part.is_empty() && part != "." && part != ".." && part.bytes().all(ordinary)
    });
    plain.then_some(text)
}

/// Carries out what was decided. The first failure ends it as it would have ended the original: with an error.
fn done(work: impl FnOnce() -> io::Result<()>, reply: Reply) -> Reply {
    match work() {
        Ok(()) => reply,
        Err(error) => Reply { code: 1, stderr: format!("parvis: {error}\n").into_bytes(), ..reply },
    }
}

const A2ENMOD: &[&str] = &["7fb47d96c1024037981fa9339618b06d1debeab3db9bd5afb4f971c5f0a65965"];
const PHPENMOD: Original =
    Original::new("/usr/sbin/phpenmod", &["6387761716172daa06f6732fcc41997ee640ec7c2c4da6907ac62d9153983986"]);
const PHPQUERY: Original =
    Original::new("/usr/sbin/phpquery", &["0e9daa717d1af9b4e069c1976e0aad9cb07141b26b7b9a680009fe322e1e0c89"]);
const UCF_LIBRARY: Original =
    Original::new("/usr/share/ucf/ucf_library.sh", &["790989ffdf589a1fb79289732f07225108f711898c4f5988c59eaacf7fe9331b"]);

const ENVVARS: &[Original] =
    &[Original::new("/etc/apache2/envvars", &["5a2160bf4447865f9aab911bf334ec64c15675cab6a457b366fe9822398f263f"])];

const fn a2(name: &'static str, answer: fn(&Tree, &Call<'_>) -> Option<Reply>) -> Program {
    // The other names are links to the first.
    Program {
        name,
        original: Original::new("/usr/sbin/a2enmod", A2ENMOD),
        companions: ENVVARS,
        tools: &["perl", "env", "sh", "find", "touch"],
        is_script: true,
        answer,
    }
}

static PROGRAMS: [Program; 14] = [
    a2("a2disconf", apache::a2disconf),
    a2("a2dismod", apache::a2dismod),
    a2("a2dissite", apache::a2dissite),
    a2("a2enconf", apache::a2enconf),
    a2("a2enmod", apache::a2enmod),
    a2("a2ensite", apache::a2ensite),
    Program {
        name: "a2query",
        original: Original {
            path: "/usr/sbin/a2query",
            mask: "our $SERVER_VERSION = ",
            digests: &["cafae7162acc26f5221b9924bf8b655bdf9500cdf25cf846a5ea62db322dd6fa"],
        },
        companions: &[
            Original::new("/usr/sbin/apache2ctl", &["18b9f0a04df598b80622f0bfc7cdc5d3d53c1144bda3bf12907b54ace8e0db25"]),
            ENVVARS[0],
        ],
        tools: &["perl", "sh", "apache2ctl"],
        is_script: true,
        answer: apache::a2query,
    },
    Program {
        name: "deb-systemd-helper",
        original: Original::new(
            "/usr/bin/deb-systemd-helper",
            &["a895d5f077651960b6ca4ed9c53f8b36eae422ae170f61c972d0c6579e9f8732"],
        ),
        companions: &[],
        tools: &["perl", "systemctl"],
        is_script: false,
        answer: systemd::deb_systemd_helper,
    },
    Program {
        name: "dpkg-maintscript-helper",
        original: Original {
            path: "/usr/bin/dpkg-maintscript-helper",
            mask: "version=",
            digests: &["f33d34a8b91b654318360b765632704abf73523d4e9befe47a771b4617e5aa19"],
        },
        companions: &[Original::new(
            "/usr/share/dpkg/sh/dpkg-error.sh",
            &["d4d4fd7712da692dbb21a10795f7e62046c90b506338768b5a93cf9f1897f528"],
        )],
        tools: &["basename", "dpkg", "sh"],
        is_script: true,
        answer: small::dpkg_maintscript_helper,
    },
    Program {
        name: "logger",
        original: Original::new("/usr/bin/logger", &["b28505b94cfb79e02f60ddf66a29ff2665d0a06c9111924d1dd68efb05030f9c"]),
        companions: &[],
        tools: &[],
        is_script: false,
        answer: small::logger,
    },
    Program {
        name: "phpenmod",
        original: PHPENMOD,
        companions: &[PHPQUERY, php::LIBRARY],
        tools: &["phpquery", "sh", "expr", "sed", "find", "readlink", "rm", "mkdir", "dirname", "touch", "ln"],
        is_script: true,
        answer: php::phpenmod,
    },
    Program {
        name: "phpquery",
        original: PHPQUERY,
        companions: &[php::LIBRARY],
        tools: &["sh", "expr", "sed", "find", "readlink"],
        is_script: true,
        answer: php::phpquery,
    },
    Program {
        name: "ucf",
        original: Original::new("/usr/bin/ucf", &["cc5c25b9d618d31489257be7d048b57e8a5e24febccaa0c13d7939c3c700bf11"]),
        companions: ucf::COMPANIONS,
        tools: &[
            "sh",
            "awk",
            "mawk",
            "basename",
            "dirname",
            "getopt",
            "sed",
            "readlink",
            "id",
            "dpkg-divert",
            "md5sum",
            "grep",
            "tr",
            "cp",
            "mv",
            "stat",
            "seq",
            "perl",
            "dpkg-query",
            "which",
        ],
        is_script: true,
        answer: ucf::ucf,
    },
    Program {
        name: "ucfr",
        original: Original::new("/usr/bin/ucfr", &["ee2caa1c2c9ca0c738f3a1bb06c0614cddd6a350e232ec1ed7f66d8be0435a96"]),
        companions: &[UCF_LIBRARY],
        tools: &[
            "sh", "awk", "mawk", "basename", "dirname", "getopt", "sed", "readlink", "id", "grep", "cp", "mv", "touch", "seq",
        ],
        is_script: true,
        answer: ucf::ucfr,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Vec<(Vec<u8>, Vec<u8>)> {
        pairs.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
    }

    fn usual(pairs: &[(&str, &str)]) -> bool {
        let environment = environment(pairs);
        is_usual(&Call { program: "ucf", arguments: &[], environment: &environment, folder: b"/", umask: 0o022 })
    }

    #[test]
    fn only_plain_paths_pass() {
        assert_eq!(path(b"/etc/php/8.4/cli/conf.d"), Some("/etc/php/8.4/cli/conf.d"));
        for odd in [
            "",
            "/",
            "etc",
            "//etc",
            "/etc/",
            "/etc/../x",
            "/etc/./x",
            "/etc/a b",
            "/etc/a|b",
            "/etc/a&b",
            "/etc/*",
            "/etc/a\\b",
            "/etc/\n",
        ] {
            assert_eq!(path(odd.as_bytes()), None, "{odd:?}");
        }
        assert_eq!(path(b"/etc/\xff"), None);
    }

    #[test]
    fn names_are_words_without_a_meaning_elsewhere() {
        assert_eq!(word(b"mpm_event").and_then(name), Some("mpm_event"));
        for odd in ["", "-q", ".hidden", "a/b", "a b", "~root", "a~", "$x", "a*", "(", "!"] {
            assert_eq!(word(odd.as_bytes()).and_then(name), None, "{odd:?}");
        }
    }

    #[test]
    fn a_bent_environment_goes_to_the_original() {
        assert!(usual(&[("PATH", "/usr/bin"), ("LC_ALL", "C.UTF-8"), ("DPKG_ROOT", "")]));
        for (name, value) in [
            ("LD_PRELOAD", "x.so"),
            ("PERL5LIB", "/x"),
            ("PERL5OPT", "-d"),
            ("APACHE_CONFDIR", "/x"),
            ("UCF_FORCE_CONFFNEW", "1"),
            ("DPKG_ROOT", "/x"),
            ("LC_ALL", "fr_FR.UTF-8"),
            ("POSIXLY_CORRECT", ""),
            ("_DEB_SYSTEMD_HELPER_DEBUG", "1"),
            ("BASH_FUNC_x%%", "() { :; }"),
        ] {
            assert!(!usual(&[(name, value)]), "{name}");
        }
        assert!(!usual(&[("A", "1"), ("A", "2")]));
    }

    #[test]
    fn a_program_is_known_by_its_bytes_alone() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("usr/bin");
        std::fs::create_dir_all(&place).unwrap();
        let program = programs().iter().find(|program| program.name == "deb-systemd-helper").unwrap();
        assert!(!program.is_known(root.path()));
        std::fs::write(place.join("deb-systemd-helper"), "#!/usr/bin/perl\n").unwrap();
        assert!(!program.is_known(root.path()));
        let environment = environment(&[("PATH", "/usr/bin"), ("DPKG_MAINTSCRIPT_PACKAGE", "x")]);
        let arguments = [b"was-enabled".to_vec(), b"a.timer".to_vec()];
        let call = Call { program: program.name, arguments: &arguments, environment: &environment, folder: b"/", umask: 0o022 };
        assert_eq!(answer(root.path(), &call), None);
        let tree = Tree::open(root.path()).unwrap();
        assert!(systemd::deb_systemd_helper(&tree, &call).is_some(), "only the program's bytes stood in the way");
    }

    #[test]
    fn a_masked_line_counts_for_nothing_but_the_others_do() {
        let root = tempfile::tempdir().unwrap();
        let digest = |text: &str| {
            std::fs::write(root.path().join("x"), text).unwrap();
            Tree::open(root.path()).unwrap().digest("/x", "version=").unwrap()
        };
        let one = digest("a\nversion=1\nb\n");
        assert_eq!(digest("a\nversion=1.22.22\nb\n"), one);
        assert_ne!(digest("a\nversion=1\nbb\n"), one);
    }

    #[test]
    fn the_names_of_the_programs_are_in_order_and_their_digests_whole() {
        assert!(programs().is_sorted_by(|a, b| a.name < b.name));
        for program in programs() {
            for original in [&program.original].into_iter().chain(program.companions) {
                assert!(original.digests.iter().all(|digest| digest.len() == 64), "{}", original.path);
            }
        }
    }
}
