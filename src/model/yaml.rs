//! YAML into values, strictly: the only file that knows the YAML library, and what its errors mean to a person.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Error, Location, MergeKeyPolicy, Options, Spanned, UserMessageFormatter};

use super::problem::{Problem, Source, shown, unseen};

/// The largest file that is read, in bytes.
pub const LARGEST: usize = 1 << 20;

/// A value with the place where it stands in its file, both counted from 1.
#[derive(Debug, Clone)]
pub struct Placed<T> {
    pub value: T,
    pub line: u32,
    pub column: u32,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Placed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::<T>::deserialize(deserializer)?;
        let (line, column) = place(&referenced);
        Ok(Self { value, line, column })
    }
}

impl<T: JsonSchema> JsonSchema for Placed<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<T>()
    }
}

impl<T> Placed<T> {
    /// Builds the problem of this value.
    pub fn problem(&self, source: &Source, message: impl Into<String>) -> Problem {
        source.problem(self.line, self.column, message)
    }
}

/// One text, or a list of texts.
#[derive(Debug, Clone, Default)]
pub struct OneOrMore(pub Vec<Placed<String>>);

impl<'de> Deserialize<'de> for OneOrMore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts(PhantomData<()>);
        impl<'de> Visitor<'de> for Texts {
            type Value = OneOrMore;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a text in quotes, or a list of texts")
            }

            fn visit_str<E>(self, text: &str) -> Result<OneOrMore, E> {
                // The caller's `Placed<OneOrMore>` knows the place.
                Ok(OneOrMore(vec![Placed { value: text.to_owned(), line: 0, column: 0 }]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<OneOrMore, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = sequence.next_element()? {
                    texts.push(text);
                }
                Ok(OneOrMore(texts))
            }
        }
        deserializer.deserialize_any(Texts(PhantomData))
    }
}

impl JsonSchema for OneOrMore {
    fn schema_name() -> Cow<'static, str> {
        "OneOrMore".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "oneOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] })
    }
}

/// A whole number, or a text.
#[derive(Debug, Clone)]
pub struct NumberOrText(pub String);

impl<'de> Deserialize<'de> for NumberOrText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = NumberOrText;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a whole number, or a text")
            }

            fn visit_u64<E>(self, number: u64) -> Result<NumberOrText, E> {
                Ok(NumberOrText(number.to_string()))
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<NumberOrText, E> {
                u64::try_from(number).map_err(|_| E::custom("the number is negative")).and_then(|number| self.visit_u64(number))
            }

            fn visit_str<E>(self, text: &str) -> Result<NumberOrText, E> {
                Ok(NumberOrText(text.to_owned()))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for NumberOrText {
    fn schema_name() -> Cow<'static, str> {
        "NumberOrText".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": ["integer", "string"] })
    }
}

/// Reads one document.
///
/// Refused: what is not YAML 1.2, two documents, none, duplicate and unknown keys, merge keys, tags of one's own, control and
/// reordering characters, and texts that another reader would take for numbers or truth values (`no`, `0440`, `8.4`).
///
/// # Errors
/// Returns the first problem, with its place.
pub fn parse<T: DeserializeOwned>(source: &Source) -> Result<T, Problem> {
    check_characters(source)?;
    if source.text.lines().all(|line| matches!(line.trim_start().bytes().next(), None | Some(b'#')) || line.trim_end() == "---") {
        return Err(source.problem(1, 1, "the file is empty"));
    }
    serde_saphyr::from_str_with_options(&source.text, options()).map_err(|error| explain(source, &error))
}

/// Bounds that a recipe written by a person never meets.
fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 50_000,
            max_nodes: 20_000,
            max_aliases: 100,
            max_anchors: 100,
            max_depth: 32,
            flow_nesting_limit: 32,
            max_documents: 2,
            max_total_scalar_bytes: LARGEST,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 10_000,
            max_replay_stack_depth: 8,
            max_alias_expansions_per_anchor: 100,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Error,
        reject_unsupported_tags: true,
        // Not `strict_booleans`: with it the library would take an unquoted `no` for a plain text.
        no_schema: true,
        with_snippet: false,
    }
}

/// Refuses what no editor shows: control characters, and those that reorder the text around them.
fn check_characters(source: &Source) -> Result<(), Problem> {
    if source.text.len() > LARGEST {
        return Err(source.problem(1, 1, format!("the file is larger than {} KiB", LARGEST / 1024)));
    }
    for (number, line) in (1_u32..).zip(source.text.lines()) {
        let guilty = line.chars().enumerate().find(|(_, character)| *character != '\t' && unseen(*character));
        if let Some((index, character)) = guilty {
            let column = u32::try_from(index).unwrap_or(u32::MAX - 1) + 1;
            let message = match character {
                '\0' => "a NUL character stands here".to_owned(),
                '\r' => "a carriage return stands inside the line".to_owned(),
                other => format!("the invisible character U+{:04X} stands here", u32::from(other)),
            };
            return Err(source.problem(number, column, message).hint("delete it; in a quoted text, write it as an escape"));
        }
    }
    Ok(())
}

fn place(location: &Location) -> (u32, u32) {
    let number = |value: u64| u32::try_from(value).unwrap_or(u32::MAX).max(1);
    (number(location.line()), number(location.column()))
}

/// Says what an error of the library means to the person who wrote the file.
fn explain(source: &Source, error: &Error) -> Problem {
    let (line, column) = error.location().map_or((1, 1), |location| place(&location));
    let at = |message: String| source.problem(line, column, message);
    match error {
        Error::WithSnippet { error, .. } => explain(source, error),
        Error::SerdeUnknownField { field, expected, .. } => {
            let problem = at(format!("unknown key `{}`", shown(field)));
            if super::problem::nearest(field, expected.iter().copied()).is_some() {
                problem.did_you_mean(field, expected.iter().copied())
            } else {
                problem.hint(format!("the keys here are {}", list(expected)))
            }
        }
        Error::SerdeMissingField { field, .. } => at(format!("the key `{field}` is missing")),
        Error::SerdeUnknownVariant { variant, expected, .. } => {
            at(format!("`{}` is not one of {}", shown(variant), list(expected))).did_you_mean(variant, expected.iter().copied())
        }
        Error::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().map(shown).unwrap_or_default();
            at(format!("the key `{key}` stands here twice")).hint("keep one of them")
        }
        Error::QuotingRequired { value, .. } => at(format!("`{}` could be read as a number or as yes or no", shown(value)))
            .hint(format!("put it in quotes: \"{}\"", shown(value))),
        Error::MultipleDocuments { .. } => {
            at("a second document begins here".into()).hint("one file holds one document: remove `---`")
        }
        Error::MergeKeyNotAllowed { .. } => at("merge keys (`<<`) are not read".into()).hint("write the keys out"),
        Error::UnsupportedTag { tag, .. } => {
            source.problem_at_word(line, tag, format!("the tag `{}` means nothing here", shown(tag))).hint("remove it")
        }
        Error::UnknownAnchor { .. } => at("this alias has no anchor".into()),
        Error::NullIntoString { .. } => at("a text is missing here".into()).hint("write it after the colon, or remove the key"),
        Error::SerdeInvalidType { unexpected, expected, .. } | Error::SerdeInvalidValue { unexpected, expected, .. } => {
            at(format!("expected {expected}, found {unexpected}"))
        }
        Error::InvalidScalar { ty, .. } => at(format!("this is not {}", type_name(ty))),
        Error::Budget { .. }
        | Error::AliasReplayCounterOverflow { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => too_much(at),
        Error::AliasError { error, locations, .. } => {
            let inner = explain(source, error);
            let (line, column) = place(&locations.reference_location);
            let problem = source.problem(line, column, inner.message);
            inner.hint.into_iter().fold(problem, Problem::hint)
        }
        Error::Unexpected { expected: "sequence start", .. } => at("expected a list".into()),
        Error::Unexpected { expected: "mapping start", .. } => at("expected keys with values".into()),
        Error::Unexpected { expected, .. } => at(format!("expected {expected}")),
        Error::Eof { .. } => at("the file ends too early".into()),
        other => syntax(source, line, column, other),
    }
}

fn too_much(at: impl Fn(String) -> Problem) -> Problem {
    at("the file has too many aliases, levels or values".into())
        .hint("a file has at most 32 levels, 100 aliases and 20,000 values; write it out plainly")
}

/// Explains what the parser itself could not read; a tab in the indentation is the usual cause.
fn syntax(source: &Source, line: u32, column: u32, error: &Error) -> Problem {
    for number in [line, line.saturating_sub(1).max(1)] {
        let text = source.line(number);
        let indentation = &text[..text.len() - text.trim_start().len()];
        if let Some(before) = indentation.find('\t') {
            let column = u32::try_from(before).unwrap_or(0) + 1;
            return source.problem(number, column, "a tab stands in the indentation").hint("indent with spaces");
        }
    }
    let message = error.without_snippet().render_with_formatter(&UserMessageFormatter);
    // The library repeats the place, which the picture already shows.
    let message = message.split(" at line ").next().unwrap_or(&message);
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let message: String = message.lines().next().unwrap_or(message).trim_end_matches('.').to_owned();
    if message.contains("recursion limit") {
        return too_much(|message| source.problem(line, column, message));
    }
    source.problem(line, column, shown(&message))
}

fn list(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

fn type_name(name: &str) -> &str {
    match name {
        "boolean" => "`true` or `false`",
        "u8" | "u16" | "u32" | "u64" | "i64" => "a whole number that fits here",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt::Write as _;
    use std::time::{Duration, Instant};

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only the errors are looked at")]
    struct Sample {
        packages: Placed<Vec<Placed<String>>>,
        #[serde(default)]
        recommends: bool,
        #[serde(default)]
        uid: u32,
        #[serde(default)]
        env: BTreeMap<String, String>,
        #[serde(default)]
        stdout: Option<Placed<OneOrMore>>,
        #[serde(default)]
        ports: Vec<Placed<NumberOrText>>,
        #[serde(default)]
        script: Option<String>,
    }

    fn read(text: &str) -> Result<Sample, Problem> {
        parse(&Source::new("r.yaml", text))
    }

    #[track_caller]
    fn refused(text: &str, expected: &str) {
        let problem = read(text).expect_err(text);
        let hint = problem.hint.as_deref().unwrap_or("-");
        assert_eq!(
            format!("{}:{}: {} | {hint}", problem.line, problem.column, problem.message),
            expected,
            "{text:?}\n{}",
            problem.render()
        );
    }

    #[test]
    fn values_know_their_places() {
        let sample = read("# a\npackages:\n  - 'é'\n  - b\n").unwrap();
        let places: Vec<_> =
            sample.packages.value.iter().map(|package| (package.value.as_str(), package.line, package.column)).collect();
        assert_eq!(places, [("é", 3, 5), ("b", 4, 5)]);
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_likely_word() {
        refused("pakages: [a]\n", "1:1: unknown key `pakages` | did you mean `packages`?");
        refused(
            "packages: []\nwombat: 1\n",
            "2:1: unknown key `wombat` | the keys here are `packages`, `recommends`, `uid`, `env`, `stdout`, `ports`, `script`",
        );
    }

    #[test]
    fn a_duplicate_key_is_refused_at_the_second_place() {
        refused("packages: []\nuid: 1\nuid: 2\n", "3:1: the key `uid` stands here twice | keep one of them");
        refused("packages: []\nenv:\n  A: x\n  A: y\n", "4:3: the key `A` stands here twice | keep one of them");
    }

    #[test]
    fn a_missing_key_is_named() {
        refused("uid: 1\n", "1:1: the key `packages` is missing | -");
    }

    #[test]
    fn a_tab_in_the_indentation_is_named() {
        refused("packages:\n\t- a\n", "2:1: a tab stands in the indentation | indent with spaces");
        refused("packages: []\nenv:\n\tA: x\n", "3:1: a tab stands in the indentation | indent with spaces");
    }

    #[test]
    fn a_tab_in_a_script_is_kept() {
        assert_eq!(read("packages: []\nscript: |\n  if x\n  \ty\n").unwrap().script.as_deref(), Some("if x\n\ty\n"));
    }

    #[test]
    fn characters_that_no_editor_shows_are_refused() {
        let hint = "delete it; in a quoted text, write it as an escape";
        refused("packages: [a\0]\n", &format!("1:13: a NUL character stands here | {hint}"));
        refused("packages: []\rrecommends: true\n", &format!("1:13: a carriage return stands inside the line | {hint}"));
        refused("packages: [\u{202e}a]\n", &format!("1:12: the invisible character U+202E stands here | {hint}"));
    }

    #[test]
    fn a_byte_order_mark_and_dos_line_ends_are_read() {
        let sample = read("\u{feff}packages:\r\n  - a\r\nscript: |\r\n  x\r\n  y\r\n").unwrap();
        assert_eq!((sample.packages.value[0].line, sample.script.as_deref()), (2, Some("x\ny\n")));
        refused("\u{feff}pakages: []\r\n", "1:1: unknown key `pakages` | did you mean `packages`?");
    }

    #[test]
    fn two_documents_and_none_are_refused() {
        refused(
            "packages: []\n---\npackages: []\n",
            "3:1: a second document begins here | one file holds one document: remove `---`",
        );
        for empty in ["", "\n", "# only this\n", "---\n"] {
            refused(empty, "1:1: the file is empty | -");
        }
    }

    #[test]
    fn merge_keys_and_unknown_tags_are_refused() {
        refused("packages: []\nenv: &e {A: x}\n<<: *e\n", "3:1: merge keys (`<<`) are not read | write the keys out");
        refused("packages: []\nscript: !run x\n", "2:9: the tag `!run` means nothing here | remove it");
        refused("packages: !set [a]\n", "1:11: the tag `!set` means nothing here | remove it");
    }

    #[test]
    fn what_another_reader_would_take_for_a_number_must_be_quoted() {
        refused(
            "packages: []\nscript: 0440\n",
            "2:9: `0440` could be read as a number or as yes or no | put it in quotes: \"0440\"",
        );
        refused(
            "packages: []\nenv:\n  A: no\n",
            "3:6: `no` could be read as a number or as yes or no | put it in quotes: \"no\"",
        );
        assert_eq!(read("packages: []\nscript: '0440'\n").unwrap().script.as_deref(), Some("0440"));
    }

    #[test]
    fn a_value_of_another_kind_is_refused() {
        refused("packages: a\n", "1:11: expected a list | -");
        refused("packages: []\nuid: many\n", "2:6: this is not a whole number that fits here | -");
        refused("packages: []\nuid: 4294967296\n", "2:6: this is not a whole number that fits here | -");
        refused("packages: []\nrecommends: perhaps\n", "2:13: this is not `true` or `false` | -");
        refused("packages: []\nenv:\n  A:\n", "3:4: a text is missing here | write it after the colon, or remove the key");
        refused("- a\n", "1:1: expected keys with values | -");
        refused(
            "packages: []\nstdout: 8.4\n",
            "2:1: expected a text in quotes, or a list of texts, found floating point `8.4` | -",
        );
    }

    #[test]
    fn a_text_or_a_list_and_a_number_or_a_text_are_read() {
        let sample = read("packages: []\nstdout: a\nports: [80, 443/tcp]\n").unwrap();
        assert_eq!(sample.stdout.unwrap().value.0[0].value, "a");
        assert_eq!(sample.ports.iter().map(|port| port.value.0.as_str()).collect::<Vec<_>>(), ["80", "443/tcp"]);
    }

    #[test]
    fn broken_yaml_is_refused_where_it_breaks() {
        for broken in
            ["packages: [a\n", "packages: \"a\n", "packages: {\n", "a: b: c\n", "packages: @a\n", "packages: *x\n", "? a\n"]
        {
            let problem = read(broken).expect_err(broken);
            assert!(problem.message.len() > 8 && !problem.message.contains("serde"), "{broken:?}: {problem}");
        }
    }

    /// Takes any value, so that nothing but the bounds stops a bomb.
    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only the errors are looked at")]
    struct Loose(BTreeMap<String, Nested>);

    #[derive(Debug)]
    #[expect(dead_code, reason = "only the errors are looked at")]
    struct Nested(Vec<Self>);

    impl<'de> Deserialize<'de> for Nested {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Any;
            impl<'de> Visitor<'de> for Any {
                type Value = Nested;

                fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                    formatter.write_str("anything")
                }

                fn visit_str<E>(self, _: &str) -> Result<Nested, E> {
                    Ok(Nested(Vec::new()))
                }

                fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Nested, A::Error> {
                    let mut values = Vec::new();
                    while let Some(value) = sequence.next_element()? {
                        values.push(value);
                    }
                    Ok(Nested(values))
                }

                fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Nested, A::Error> {
                    let mut values = Vec::new();
                    while let Some((_, value)) = map.next_entry::<String, _>()? {
                        values.push(value);
                    }
                    Ok(Nested(values))
                }
            }
            deserializer.deserialize_any(Any)
        }
    }

    #[test]
    fn bombs_are_refused_within_a_second() {
        let mut aliases = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..10 {
            let before = format!("*a{},", level - 1).repeat(9);
            writeln!(aliases, "a{level}: &a{level} [{}]", before.trim_end_matches(',')).unwrap();
        }
        let values = format!("a: &a [{}]\nb: [{}]\n", "x,".repeat(9_000), "*a,".repeat(73_000));
        let text = format!("a: &a {}\nb: [{}]\n", "x".repeat(120_000), "*a,".repeat(40_000));
        let deep = "[".repeat(100_000);
        let flow = "{a: ".repeat(50_000);
        let bombs = [
            aliases,
            values,
            text,
            deep.clone(),
            format!("a: {deep}"),
            format!("a: {flow}"),
            format!("a:\n  {}", "- ".repeat(50_000)),
        ];
        for bomb in bombs {
            let start = Instant::now();
            let problem = parse::<Loose>(&Source::new("r.yaml", &bomb)).expect_err("a bomb");
            assert!(start.elapsed() < Duration::from_secs(1), "{:?} for {problem}", start.elapsed());
            assert_eq!(problem.message, "the file has too many aliases, levels or values", "{}...", &bomb[..20]);
            assert!(problem.render().len() < 2000);
        }
    }

    #[test]
    fn what_a_person_writes_is_far_from_the_bounds() {
        let aliases = format!("a: &a [{}]\nb: [{}]\n", "x,".repeat(90), "*a,".repeat(90));
        let levels = format!("a: {}{}\n", "[".repeat(30), "]".repeat(30));
        for fine in [aliases, levels] {
            assert!(parse::<Loose>(&Source::new("r.yaml", &fine)).is_ok(), "{fine}");
        }
    }
}
