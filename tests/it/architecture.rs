//! Holds the order of imports and the walls between the rooms of `src`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The rooms in the order of imports: a file imports only from its own room and from those before it.
const ROOMS: [&str; 15] = [
    "failure", "screen", "model", "composer", "debian", "plan", "image", "trust", "bundle", "edge", "execute", "verbs", "ui",
    "cli", "main",
];

/// Rooms that compute and do nothing else.
const PURE: [&str; 9] = ["failure", "screen", "model", "composer", "debian", "plan", "image", "trust", "bundle"];

/// What a pure room may not name: the beginnings of paths.
const IMPURE: [&str; 12] = [
    "std::fs",
    "std::net",
    "std::process",
    "std::env",
    "std::time::SystemTime",
    "std::time::Instant",
    "jiff::Timestamp::now",
    "jiff::Zoned::now",
    "tokio",
    "rustix",
    "reqwest",
    "tempfile",
];

/// Ways to print: macros, then functions.
const PRINTING: [&str; 5] = ["println", "eprintln", "print", "eprint", "dbg"];
const STREAMS: [&str; 4] = ["std::io::stdout", "std::io::stderr", "io::stdout", "io::stderr"];

/// The one file that may say `unsafe`.
const UNSAFE: &str = "src/edge/sandbox/sys.rs";

/// Heavy crates, each with the only places that may name it.
const PLACES: [(&str, &[&str]); 2] = [
    ("serde_saphyr", &["src/model/yaml.rs"]),
    ("reqwest", &["src/edge/http/", "src/edge/fetch/http.rs", "src/edge/registry/http.rs"]),
];

/// What is no door but what doors stand on.
const SHARED: [&str; 2] = ["draft", "http"];

/// Returns what is wrong with one source file.
fn complaints(path: &str, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if !text.starts_with("//!") {
        wrong.push("does not begin with `//!`".to_owned());
    }
    let code = without_comments_and_strings(text);
    if path != UNSAFE && words(&code).any(|word| word == "unsafe") {
        wrong.push("says `unsafe`".to_owned());
    }
    let module = module_of(path);
    let Some(room) = module.first() else { return wrong };
    let Some(rank) = ROOMS.iter().position(|name| name == room) else {
        wrong.push(format!("stands in no known room: `{room}`"));
        return wrong;
    };
    let program = without_tests(&code);
    for name in paths(&program, &module) {
        if let Some(inside) = name.strip_prefix("crate::").or_else(|| name.strip_prefix("parvis::")) {
            let mut parts = inside.split("::");
            let (target, file) = (parts.next().unwrap_or_default(), parts.next());
            match ROOMS.iter().position(|name| *name == target) {
                Some(other) if other > rank => wrong.push(format!("imports `{name}`, which comes later than `{room}`")),
                Some(_)
                    if target == "edge"
                        && room == "edge"
                        && file
                            .is_some_and(|file| !SHARED.contains(&file) && Some(file) != module.get(1).map(String::as_str)) =>
                {
                    wrong.push(format!("imports `{name}`: no door opens another"));
                }
                _ => {}
            }
        }
        let begins = |forbidden: &&&str| name == **forbidden || name.starts_with(&format!("{forbidden}::"));
        if PURE.contains(&room.as_str()) {
            if let Some(forbidden) = IMPURE.iter().find(begins) {
                wrong.push(format!("is of a pure room and names `{forbidden}`"));
            }
        } else if !matches!(room.as_str(), "cli" | "main") && begins(&&"std::env") {
            wrong.push(format!("names `{name}`; only cli.rs reads the environment"));
        }
        if room != "ui" && STREAMS.iter().any(|stream| begins(&stream)) {
            wrong.push(format!("names `{name}`; only ui.rs prints"));
        }
    }
    if room != "ui" {
        let printing = PRINTING.iter().find(|name| words_before_bang(&program).any(|word| word == **name));
        wrong.extend(printing.map(|name| format!("says `{name}!`; only ui.rs prints")));
    }
    wrong
}

/// Returns where heavy crates are named outside their places.
fn crates_out_of_place(sources: &BTreeMap<String, String>) -> Vec<String> {
    let naming = |name: &str| -> Vec<&str> {
        let names_it = |text: &str| words(&without_comments_and_strings(text)).any(|word| word == name);
        sources.iter().filter(|(_, text)| names_it(text)).map(|(path, _)| path.as_str()).collect()
    };
    let misplaced = |(name, places): (&str, &[&str])| -> Vec<String> {
        let outside = naming(name).into_iter().filter(|path| !places.iter().any(|place| path.starts_with(place)));
        outside.map(|path| format!("`{name}` is named in {path}")).collect()
    };
    PLACES.into_iter().flat_map(misplaced).collect()
}

/// Returns the module path of a file: `src/edge/fetch/part.rs` is `edge`, `fetch`, `part`; `src/lib.rs` is nothing.
fn module_of(path: &str) -> Vec<String> {
    let inside = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    if inside == "lib" { Vec::new() } else { inside.split('/').map(str::to_owned).collect() }
}

/// Returns the text with comments and the contents of string and character literals blanked.
fn without_comments_and_strings(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else {
            literal_length(rest, out.chars().next_back()).unwrap_or(0)
        };
        if length == 0 {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            out.push(' ');
            rest = &rest[length..];
        }
    }
    out
}

/// Returns the length of the string or character literal that the text begins with.
fn literal_length(text: &str, before: Option<char>) -> Option<usize> {
    let in_word = before.is_some_and(|character| character.is_alphanumeric() || character == '_');
    let raw = text.trim_start_matches(['b', 'c']).strip_prefix('r').filter(|_| !in_word);
    if let Some(raw) = raw {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let close = format!("\"{}", "#".repeat(hashes));
            let begin = text.len() - raw.len() + hashes + 1;
            return Some(text[begin..].find(&close).map_or(text.len(), |end| begin + end + close.len()));
        }
    }
    let quote = text.chars().next().filter(|first| matches!(first, '"' | '\''))?;
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if character == '\\' {
            escaped = true;
        } else if character == quote {
            return Some(at + 1);
        }
        // A quote that is neither `'x'` nor `'\…'` begins a lifetime.
        if quote == '\'' && at > 1 && !text[1..].starts_with('\\') {
            return None;
        }
    }
    None
}

/// Returns the code without the modules that only tests compile.
fn without_tests(code: &str) -> String {
    let mut out = String::new();
    let mut rest = code;
    while let Some((program, after)) = rest.split_once("#[cfg(test)]") {
        out.push_str(program);
        let end = after.find(['{', ';']).unwrap_or(after.len());
        rest = if after[end..].starts_with('{') { &after[end + block_length(&after[end..])..] } else { &after[end..] };
    }
    out + rest
}

/// Returns the length of the block in braces that the text begins with.
fn block_length(text: &str) -> usize {
    let mut depth = 0_usize;
    for (at, character) in text.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 1 => return at + 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    text.len()
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|character: char| !character.is_alphanumeric() && character != '_').filter(|word| !word.is_empty())
}

fn words_before_bang(code: &str) -> impl Iterator<Item = &str> {
    code.split('!').filter_map(|before| before.rsplit(|character: char| !character.is_alphanumeric() && character != '_').next())
}

/// Returns all paths that the code names, with groups spelled out and `self`, `super` resolved from the crate's root.
fn paths(code: &str, module: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    let mut inline: Vec<usize> = Vec::new();
    let mut depth = 0_usize;
    let mut rest = code;
    let mut previous = "";
    while let Some(first) = rest.chars().next() {
        let length = rest.find(|character: char| !character.is_alphanumeric() && character != '_').unwrap_or(rest.len());
        let word = &rest[..length];
        if word.is_empty() {
            match first {
                '{' => depth += 1,
                '}' => {
                    depth = depth.saturating_sub(1);
                    inline.retain(|opened| *opened < depth);
                }
                _ => {}
            }
            rest = &rest[first.len_utf8()..];
            continue;
        }
        if previous == "mod" && rest[length..].trim_start().starts_with('{') {
            inline.push(depth);
        }
        if rest[length..].starts_with("::") {
            let (names, after) = path_tree(rest);
            found.extend(names.iter().map(|name| from_root(name, module, inline.len())));
            rest = after;
        } else {
            rest = &rest[length..];
        }
        previous = word;
    }
    found
}

/// Reads one path, or a group of paths, and returns its spelled-out forms and what follows.
fn path_tree(text: &str) -> (Vec<String>, &str) {
    let text = text.trim_start();
    if let Some(group) = text.strip_prefix('{') {
        let mut names = Vec::new();
        let mut rest = group;
        loop {
            let (part, after) = path_tree(rest);
            names.extend(part);
            // What stands between a path and the next comma is `as name`.
            let Some(end) = after.find([',', '}']) else { return (names, "") };
            rest = &after[end + 1..];
            if after[end..].starts_with('}') {
                return (names, rest);
            }
        }
    }
    let length =
        text.find(|character: char| !character.is_alphanumeric() && character != '_' && character != '*').unwrap_or(text.len());
    let (word, after) = text.split_at(length);
    match after.strip_prefix("::") {
        Some(tail)
            if tail
                .trim_start()
                .starts_with(|character: char| character.is_alphabetic() || matches!(character, '_' | '{' | '*')) =>
        {
            let (names, rest) = path_tree(tail);
            (names.into_iter().map(|name| format!("{word}::{name}")).collect(), rest)
        }
        _ => (vec![word.to_owned()], after),
    }
}

fn from_root(name: &str, module: &[String], inline: usize) -> String {
    let mut here: Vec<&str> = module.iter().map(String::as_str).collect();
    here.extend(std::iter::repeat_n("inline", inline));
    let mut rest = name;
    let mut relative = false;
    loop {
        if let Some(after) = rest.strip_prefix("super::") {
            here.pop();
            (rest, relative) = (after, true);
        } else if let Some(after) = rest.strip_prefix("self::") {
            (rest, relative) = (after, true);
        } else {
            break;
        }
    }
    if relative { format!("crate::{}::{rest}", here.join("::")).replace("::::", "::") } else { rest.to_owned() }
}

/// Returns every source file of the program, by its path from the project's root.
fn sources() -> BTreeMap<String, String> {
    fn walk(folder: &Path, root: &Path, sources: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, root, sources);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                sources.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = BTreeMap::new();
    walk(&root.join("src"), root, &mut sources);
    sources
}

#[test]
fn the_source_keeps_its_order() {
    let sources = sources();
    assert!(sources.contains_key("src/lib.rs"), "the walk finds the source");
    let mut wrong: Vec<String> = sources
        .iter()
        .flat_map(|(path, text)| complaints(path, text).into_iter().map(move |complaint| format!("{path} {complaint}")))
        .collect();
    wrong.extend(crates_out_of_place(&sources));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_test_file_says_what_it_is_for() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    for folder in [here.clone(), here.join("kit")] {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "rs") {
                assert!(fs::read_to_string(&path).unwrap().starts_with("//!"), "{} does not begin with `//!`", path.display());
            }
        }
    }
}

/// Each line is a guilty file and a word of the complaint it must get.
#[test]
fn each_wall_is_seen_to_stand() {
    let guilty = [
        ("src/model/lock.rs", "use crate::debian::version::Version;", "comes later"),
        ("src/model/lock.rs", "use crate::{failure::Failure, edge::{store::Store}};", "comes later"),
        ("src/model/lock.rs", "fn f() { crate::verbs::lock::run() }", "comes later"),
        ("src/failure.rs", "use super::model::name::Suite;", "comes later"),
        ("src/model/lock.rs", "use super::super::plan::Plan;", "comes later"),
        ("src/image/tar.rs", "mod inner { use super::super::super::edge::store::Store; }", "comes later"),
        ("src/ui.rs", "use crate::cli::Options;", "comes later"),
        ("src/edge/fetch.rs", "use crate::edge::store::Store;", "no door opens another"),
        ("src/edge/fetch.rs", "use super::store::Store;", "no door opens another"),
        ("src/edge/sandbox/worker.rs", "use super::super::store::Store;", "no door opens another"),
        ("src/edge/http/part.rs", "use crate::edge::store::Store;", "no door opens another"),
        ("src/edge/draft.rs", "use crate::edge::store::Store;", "no door opens another"),
        ("src/plan/build.rs", "use std::fs;", "names `std::fs`"),
        ("src/plan/build.rs", "use std::{fmt, collections::BTreeMap, fs::File};", "names `std::fs`"),
        ("src/debian/index.rs", "fn f() { std::net::TcpStream::connect(a) }", "names `std::net`"),
        ("src/debian/index.rs", "use std::process::Command;", "names `std::process`"),
        ("src/image/oci.rs", "use std::time::{Duration, SystemTime};", "names `std::time::SystemTime`"),
        ("src/image/oci.rs", "fn f() { println!(\"x\") }", "says `println!`"),
        ("src/model/name.rs", "fn f() { std::env::var(\"X\") }", "names `std::env`"),
        ("src/verbs/build.rs", "fn f() { eprintln!(\"x\") }", "only ui.rs prints"),
        ("src/edge/store.rs", "use std::io::{self, stderr};", "only ui.rs prints"),
        ("src/edge/store.rs", "use std::env;", "only cli.rs reads the environment"),
        ("src/edge/store.rs", "fn f() { unsafe { x() } }", "says `unsafe`"),
        ("src/edge/store.rs", "#[cfg(test)] mod tests { fn f() { unsafe { x() } } }", "says `unsafe`"),
        ("src/novelty/x.rs", "use std::fmt;", "no known room"),
        ("src/utils.rs", "", "no known room"),
    ];
    for (path, code, expected) in guilty {
        let found = complaints(path, &format!("//! A file.\n{code}\n"));
        assert!(found.iter().any(|complaint| complaint.contains(expected)), "{path}: {code}: {found:?}");
    }
    assert_eq!(complaints("src/lib.rs", "pub mod a;"), ["does not begin with `//!`"]);
    let named =
        ["src/edge/store/mod.rs", "src/edge/http/mod.rs"].map(|path| (path.to_owned(), "use reqwest::Client;".to_owned()));
    assert_eq!(crates_out_of_place(&BTreeMap::from(named)), ["`reqwest` is named in src/edge/store/mod.rs"]);
}

#[test]
fn honest_files_get_no_complaint() {
    let honest = [
        ("src/model/lock.rs", "use super::digest::FileDigest;\nuse std::fmt::Write as _;"),
        (
            "src/model/lock.rs",
            "// std::fs is not for us\nconst A: &str = \"use crate::edge::x; println!\";\nconst B: char = '\"';",
        ),
        ("src/model/lock.rs", "const A: &str = r#\"say \"unsafe\" \"#;\nfn f<'a>(x: &'a str) -> char { '\\'' }"),
        ("src/model/lock.rs", "#[cfg(test)]\nmod tests { use super::*; fn f() { std::fs::read(x); println!(\"x\") } }"),
        (
            "src/edge/sandbox/worker.rs",
            "use super::sys::mount;\nuse crate::edge::sandbox::plan::X;\nuse crate::model::tree::Tree;",
        ),
        ("src/edge/sandbox/sys.rs", "fn f() { unsafe { x() } }"),
        ("src/edge/fetch.rs", "mod raw { use super::part; fn f() { if x { } } }\nuse std::fs::File;"),
        ("src/edge/fetch.rs", "use super::http::Proxies;"),
        ("src/edge/keys.rs", "use super::draft::DraftFile;"),
        ("src/cli.rs", "use std::env;\nuse crate::ui::Ui;"),
        ("src/ui.rs", "fn f() { println!(\"x\"); std::io::stderr(); }"),
        ("src/main.rs", "fn main() -> std::process::ExitCode { parvis::cli::run(std::env::args_os()) }"),
    ];
    for (path, code) in honest {
        assert_eq!(complaints(path, &format!("//! A file.\n{code}\n")), Vec::<String>::new(), "{path}: {code}");
    }
}
